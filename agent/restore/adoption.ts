import { randomInt } from "node:crypto";
import { wallClockUs } from "../../proto/clock.js";
import { connectionId, type Flow } from "../../proto/flow.js";
import { type ConnectionRecord, encodeRecord } from "../../proto/record.js";
import { add } from "../../proto/sequence.js";
import { ConflictError } from "../../proto/store/index.js";
import type { ConnectionTable } from "../connection/table.js";
import type { ResumptionResult } from "./attempt.js";
import type { Heir } from "./heir.js";
import type { AnswerDesk } from "./reattachment.js";
import { Resumption } from "./resumption.js";

/** A connection that died between its handshake and its first commit, as the appliance remembers it. */
export interface Orphan {
  flow: Flow;
  from: string;
  clientIsn: number;
  /** What the client acknowledges: our ISN + 1, since nothing of ours left before a commit. */
  clientAck: number;
  mss: number;
  windowScale: number | undefined;
  sack: boolean;
  timestamps: boolean;
  /** The client's echo: the dead server's clock at its SYN-ACK. */
  clientTsecr: number;
}

export type ServiceOf = (
  port: number,
) => { name: string; protocol: string; clientFirst: boolean; bundles: boolean } | undefined;

/** Random ahead of the dead server's clock, so that an echo of it can only come from the client's own stack. */
const NONCE_MS = 2 ** 20;

/**
 * Takes over a connection without a record: only where nothing can have been said or taken in yet. The first record is
 * written here, by compare-and-set from "never written": a record or a tombstone means that more had happened.
 */
export async function adopt(
  orphan: Orphan,
  deps: {
    table: ConnectionTable;
    desk: AnswerDesk;
    heir: Heir;
    serviceOf: ServiceOf;
    /** The window scale that this host's stack, and so the dead server's, answers a SYN with. */
    receiveScale: number;
  },
): Promise<ResumptionResult> {
  const { table, desk, heir } = deps;
  const id = connectionId(orphan.flow, orphan.clientIsn);
  const ended = (result: "refused" | "failed", reason: string): ResumptionResult => ({
    id,
    flow: orphan.flow,
    result,
    reason,
    epoch: 0,
    from: orphan.from,
    phasesUs: {},
  });
  const refused = (reason: string) => ended("refused", reason);
  const service = deps.serviceOf(orphan.flow.vip.port);
  if (!service) return refused("no such service here");
  if (!service.clientFirst) return refused("no record, and the server speaks first in this protocol");
  if (!orphan.timestamps) return refused("no record, and the client has no timestamps to prove itself with");

  const now = wallClockUs();
  const record: ConnectionRecord = {
    version: 1,
    id,
    serverId: table.host.serverId,
    incarnation: table.host.incarnation,
    epoch: 1,
    takenAtUs: now,
    bornAtUs: now,
    bundleId: service.bundles ? id : "",
    flow: orphan.flow,
    service: service.name,
    protocol: service.protocol,
    tcp: {
      clientIsn: orphan.clientIsn,
      serverIsn: add(orphan.clientAck, -1),
      clientSeq: add(orphan.clientIsn, 1),
      serverSeq: orphan.clientAck,
      mss: orphan.mss,
      sendScale: orphan.windowScale ?? 0,
      receiveScale: orphan.windowScale === undefined ? 0 : deps.receiveScale,
      windowScaling: orphan.windowScale !== undefined,
      sack: orphan.sack,
      timestamps: true,
      timestampClock: add(orphan.clientTsecr, randomInt(NONCE_MS)),
      timestampUsec: false,
    },
    layers: [],
    output: [],
    floor: 0,
    floorByte: Buffer.alloc(0),
    consumed: 0,
    processed: 0,
    spilled: 0,
    clientFinished: false,
    spool: Buffer.alloc(0),
    phase: "UNREADY",
    unprotectedReason: "",
    writer: table.host.writer,
  };
  let revision: number;
  try {
    revision = await table.host.bucket.commit(id, encodeRecord(record), 0, `${id}/${table.host.writer}/adopt/${now}`);
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
    if (error.present.removed) return refused("the connection had ended");
    // Its owner's first write has landed after all, and whoever is that one's heir goes on from there: not the client's end.
    return ended("failed", "it has a record");
  }
  const resumption = new Resumption(table, desk, { ...record, serverId: orphan.from }, revision, {
    nonce: true,
    claimed: true,
  });
  return new Promise((resolve) =>
    heir.pursue({
      id,
      from: orphan.from,
      make: () => resumption,
      isWanted: () => true,
      done: (result) => resolve(result ?? ended("failed", "somebody else has it")),
    }),
  );
}
