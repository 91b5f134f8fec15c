import { wallClockUs } from "../../proto/clock.js";
import { connectionId, type Flow } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import { guardFlag, guardOption } from "../guard/index.js";
import type { Endpoints, Listener, OnAccept } from "../native/api.js";
import { LiveConnection } from "./connection.js";
import type { Identity } from "./identity.js";
import { resetExactly } from "./reset.js";
import type { ConnectionTable } from "./table.js";

const log = logger("acceptor");
const BACKLOG = 4096;
/** Bytes that the timestamps option takes of each segment (RFC 7323 section 3.2, padded). */
const TIMESTAMPS_BYTES = 12;

export interface Listening {
  service: string;
  protocol: string;
  port: number;
  /** Whether its connections get records. */
  recorded: boolean;
  /** What they are in bundles, if they are of any. */
  role: "alone" | "control" | "related";
}

/**
 * Listens for one service on one VIP. The guard has made its entry at ESTABLISHED, before accept: it names both initial
 * sequence numbers and what was negotiated. A connection without one (its table was full) can never say anything: it is closed unseen.
 * @param fd a socket that listens there already
 */
export function listen(table: ConnectionTable, vip: string, service: Listening, fd?: number): Listener {
  const { native, limits } = table.host;
  const onAccept: OnAccept = (accepted) => {
    for (const one of accepted) accept(table, service, one.fd, one.endpoints);
  };
  if (fd !== undefined) return native.listenOn(fd, onAccept);
  const { port } = service;
  return native.listen({ address: vip, port, backlog: BACKLOG, receiveBuffer: limits.inputBytes, onAccept });
}

/** @param bundle of a related one, where it is known */
export function accept(
  table: ConnectionTable,
  listening: Omit<Listening, "port">,
  fd: number,
  endpoints: Endpoints,
  bundle?: string,
): void {
  const { guard, native } = table.host;
  const { service, protocol, recorded, role } = listening;
  const flow: Flow = { client: endpoints.remote, vip: endpoints.local, transport: "tcp" };
  const entry = guard.lookup(flow);
  if (entry?.phase !== "LIVE") {
    log.warn({ flow }, "a connection without the guard's entry is closed unseen");
    native.closeInRepair(fd);
    return;
  }
  const id = connectionId(flow, entry.clientIsn);
  const isRelated = role === "related";
  if (!isRelated && table.clients.isFull({ id, flow })) {
    resetExactly(table.host, flow, () => native.closeInRepair(fd));
    return;
  }
  const bundleId = isRelated ? (bundle ?? table.host.bundles.take(flow)) : role === "control" ? id : "";
  if (bundleId === undefined) {
    if (table.early.keep(() => accept(table, listening, fd, endpoints))) return;
    log.info({ flow }, "a connection that no bundle waits for is reset");
    resetExactly(table.host, flow, () => native.closeInRepair(fd));
    return;
  }
  if (entry.receiveScale !== undefined) table.receiveScale = entry.receiveScale;
  const timestamps = (entry.options & guardOption.TIMESTAMPS) !== 0;
  const identity: Identity = {
    id,
    bundleId,
    flow,
    service,
    protocol,
    tcp: {
      clientIsn: entry.clientIsn,
      serverIsn: entry.serverIsn,
      mss: entry.mss + (timestamps ? TIMESTAMPS_BYTES : 0),
      sendScale: entry.sendScale ?? 0,
      receiveScale: entry.receiveScale ?? 0,
      windowScaling: entry.sendScale !== undefined,
      sack: (entry.options & guardOption.SACK) !== 0,
      timestamps,
    },
    bornAtUs: wallClockUs(),
    recorded,
  };
  const connection = new LiveConnection(table.host, identity, {
    epoch: 1,
    spilled: 0,
    revision: 0,
    position: 0,
    floorByte: Buffer.alloc(0),
    consumed: 0,
    processed: 0,
    clientFinished: false,
    phase: "LIVE",
  });
  connection.useStack(table.createStack(connection, { processed: 0 }));
  const isOneTooMany = !isRelated && connection.isHalfOpen && table.clients.isFullOfHalfOpen(connection);
  if (isOneTooMany) identity.recorded = false; // a flood of them must not be one of commits
  if (!identity.recorded) guard.change(flow, { setFlags: guardFlag.UNPROTECTED });
  table.addLive(connection);
  if (isOneTooMany) connection.turnAway(fd);
  else connection.start(fd);
}
