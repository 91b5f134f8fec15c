import { within } from "../../proto/deadline.js";
import { BatonError, RefusedError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import {
  type ConnectionRecord,
  decodeRecord,
  encodeRecord,
  type ObjectReference,
  outputEnd,
} from "../../proto/record.js";
import type { HandoverReply, HandoverRequest, Prepare, PrepareAnswer, SocketState } from "../../proto/rpc/index.js";
import { type Offset, type Sequence, toOffset, toSequence } from "../../proto/sequence.js";
import { ConflictError } from "../../proto/store/index.js";
import type { LiveConnection } from "../connection/connection.js";
import { endpointsOf } from "../connection/host.js";
import type { ConnectionTable } from "../connection/table.js";
import type { SocketImage } from "../native/api.js";
import type { OpenObject } from "../protocols/application.js";
import type { Stack } from "../protocols/stack.js";
import type { Heir } from "../restore/heir.js";
import type { Known } from "../restore/known_records.js";
import { widestWindow } from "../restore/receive_window.js";
import type { RepairSocket } from "../restore/repair_socket.js";
import { beginUnready, neededObjects, prepareUnready, unreadyConnection } from "../restore/unready.js";
import type { MigrationResult } from "./result.js";

const log = logger("migration");
/** What was prepared for a connection that does not come is let go of. */
const PREPARED_MS = 10_000;
const RETRY_MS = 20;
/** For a record that somebody else has seen already to be seen here. */
const RECORD_MS = 1_000;
const [ESTABLISHED, FIN_WAIT1, FIN_WAIT2] = [1, 4, 5];

interface Prepared {
  objects: Map<string, OpenObject>;
  timer: NodeJS.Timeout;
}

/**
 * Takes live connections from other servers:
 *
 *   asked: can this be served here? objects opened ─► state comes ─► unready, rebuilt, silent ─► record claimed ─► ready ─► LIVE
 *                                                                     │ until here nothing is sent, and all is undone
 */
export class Arrivals {
  private readonly prepared = new Map<string, Prepared>();

  constructor(
    private readonly table: ConnectionTable,
    private readonly heir: Heir,
    private readonly report: (result: MigrationResult) => void,
  ) {}

  /** Whether this server can go on with the connection, judged by its record. */
  async prepare({ request, migration, connectionId }: Prepare): Promise<PrepareAnswer> {
    const startedAt = performance.now();
    const answer = (reason: string): PrepareAnswer => ({
      ...{ request, ready: reason === "", reason, elapsedUs: Math.round((performance.now() - startedAt) * 1000) },
    });
    const known = await this.recordOf(connectionId);
    if (!known) return answer("it has no record here");
    const objects = new Map<string, OpenObject>();
    const record = decodeRecord(known.bytes);
    const connection = unreadyConnection(this.table.host, record, known.revision);
    let stack: Stack | undefined;
    try {
      stack = this.table.createStack(connection, record);
      await stack.unready(record.layers);
      const unmovable = stack.application.unmovable?.();
      if (unmovable) throw new RefusedError(unmovable);
      for (const { object } of neededObjects(record)) {
        if (!objects.has(nameOf(object))) objects.set(nameOf(object), await stack.application.open(object, true));
      }
    } catch (error) {
      for (const file of objects.values()) file.close();
      if (!(error instanceof RefusedError)) throw error;
      return answer(error.message);
    } finally {
      stack?.undo();
      void stack?.application.closed(false);
    }
    const timer = setTimeout(() => this.cancel(migration), PREPARED_MS).unref();
    this.prepared.set(migration, { objects, timer });
    return answer("");
  }

  /** The controller knows of it: if this server does not yet, it soon will. */
  private async recordOf(connectionId: string): Promise<Known | undefined> {
    const deadline = performance.now() + RECORD_MS;
    for (;;) {
      const known = this.heir.lookup(connectionId);
      if (known || performance.now() > deadline) return known;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  cancel(migration: string): void {
    for (const file of this.take(migration).values()) file.close();
  }

  private take(migration: string): Map<string, OpenObject> {
    const prepared = this.prepared.get(migration);
    clearTimeout(prepared?.timer);
    this.prepared.delete(migration);
    return prepared?.objects ?? new Map();
  }

  /** The frozen connection comes. Answers once it is certain whose it is; never rejects. */
  async arrive(request: HandoverRequest, reply: (reply: HandoverReply) => void): Promise<void> {
    const { migration, revision, socket: state } = request;
    const startedAt = performance.now();
    const phasesUs: Record<string, number> = {};
    const mark = (phase: string) => {
      phasesUs[phase] = Math.round((performance.now() - startedAt) * 1000);
    };
    const objects = this.take(migration);
    let connection: LiveConnection | undefined;
    let socket: RepairSocket | undefined;
    try {
      const { host } = this.table;
      const frozen = decodeRecord(request.record);
      if (!state) throw new RefusedError("no socket state");
      const { serverId, incarnation, writer } = host;
      const record: ConnectionRecord = {
        ...frozen,
        serverId,
        incarnation,
        writer,
        epoch: frozen.epoch + 1,
        phase: "UNREADY",
      };
      ({ connection, socket } = beginUnready(this.table, record, revision, "FROZEN", state.unread.length));
      connection.history.add("arriving", "", `from ${frozen.serverId}, epoch ${record.epoch}`);
      const opened = (object: ObjectReference) => {
        const file = objects.get(nameOf(object));
        objects.delete(nameOf(object));
        return file;
      };
      const [missing] = await prepareUnready(this.table, connection, record, opened);
      if (missing) throw missing.refusal;
      const offsetOf = offsetsOf(record);
      await within(
        request.deadlineMs,
        connection.output.fetch(offsetOf(state.sendUna), offsetOf(state.sendNext)),
        () => new RefusedError("its upstream does not answer"),
      );
      mark("unready");
      const image = imageOf(record, state, connection, host.limits.inputBytes);
      socket.rebuild(image);
      mark("rebuilt");
      const claimed = await this.claim(record, revision);
      if (claimed === undefined) throw new RefusedError("somebody else has the record");
      mark("committed");
      const fd = socket.take();
      try {
        this.goLive(connection, fd, record, state, image, claimed);
      } catch (error) {
        if (!connection.hasSocket) host.native.closeInRepair(fd);
        // It is ours, and its former owner has let go: from the record, as if that one had died.
        log.error({ err: error, connection: record.id }, "an arrived connection is taken over once more");
        this.table.host.guard.remove(connection.flow);
        connection.lost((error as Error).message);
        this.heir.resumeOwn(record.id, claimed, encodeRecord(record));
      }
      mark("ready");
      // First to the controller: until it knows packets are held. The former owner has nothing left to do but to clear away.
      this.report({ migration, connectionId: record.id, connection, result: "ok", reason: "", phasesUs });
      reply({ migration, committed: true, reason: "" });
    } catch (error) {
      const reason = (error as Error).message;
      log.warn({ migration, reason }, "a connection does not arrive");
      socket?.close();
      if (connection) {
        this.table.host.guard.remove(connection.flow);
        connection.lost(reason);
      }
      reply({ migration, committed: false, reason });
    } finally {
      for (const file of objects.values()) file.close();
    }
  }

  /**
   * The commit point. @returns the revision; undefined where the record is somebody else's, for good. While the outcome is
   * not known it is asked for: the former owner will write in the end, and then it is.
   */
  private async claim(record: ConnectionRecord, revision: number): Promise<number | undefined> {
    const { bucket, writer } = this.table.host;
    const isMine = (bytes: Uint8Array) => {
      const present = decodeRecord(bytes);
      return present.writer === writer && present.epoch === record.epoch;
    };
    const bytes = encodeRecord(record);
    try {
      return await bucket.commit(record.id, bytes, revision, `${record.id}/${writer}/arrive/${revision}`, isMine);
    } catch (error) {
      if (error instanceof ConflictError) return undefined;
      if (error instanceof BatonError && error.code === "STORE_TOO_SMALL") throw error; // it was not sent
      log.warn({ err: error, connection: record.id }, "it is not known yet whose a connection is");
    }
    for (;;) {
      try {
        const present = await bucket.read(record.id);
        if (!present.removed && present.revision > 0 && isMine(present.bytes)) return present.revision;
        if (present.revision !== revision) return undefined;
      } catch {
        // the store is still away
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  private goLive(
    connection: LiveConnection,
    fd: number,
    record: ConnectionRecord,
    state: SocketState,
    image: SocketImage,
    revision: number,
  ): void {
    const { guard, native } = this.table.host;
    const offsetOf = offsetsOf(record);
    connection.phase.move("READY");
    guard.change(record.flow, { phase: "LIVE", sendNext: state.sendNext });
    native.activate(fd, image);
    connection.claimed(revision);
    connection.resume(fd, offsetOf(state.sendUna), record.spool, offsetOf(state.sendNext));
    connection.phase.move("LIVE");
    this.table.addLive(connection);
    if (state.acknowledged !== image.receiveNext) native.sendSegments([acknowledgement(record, state, image)]);
  }
}

/**
 * The former owner's kernel had not said that it has all of the input, and this one believes that it was said. The guard clamps it to
 * what is committed, and so knows that there is more to say.
 */
function acknowledgement(record: ConnectionRecord, state: SocketState, image: SocketImage) {
  const { timestamps, windowScaling, receiveScale } = record.tcp;
  return {
    ...endpointsOf(record.flow),
    seq: state.sendNext,
    ack: image.receiveNext,
    flags: 0x10,
    window: Math.min(65_535, image.window.rcvWnd >> (windowScaling ? receiveScale : 0)),
    ...(timestamps ? { timestamps: { value: image.timestampClock, echo: state.echo } } : {}),
  };
}

/** Offsets of our stream by their sequence numbers. */
function offsetsOf({ tcp, floor }: ConnectionRecord): (sequence: Sequence) => Offset {
  return (sequence) => toOffset(tcp.serverIsn, sequence, floor);
}

/** What is opened of an object may be good for this part of it alone. */
function nameOf({ objectId, validator, objectOffset, length }: ObjectReference): string {
  return `${validator} ${objectOffset} ${length} ${objectId}`;
}

/** The socket as it was: what had left is in the send queue as sent, what had not the pump sends from the record's promises. */
function imageOf(
  record: ConnectionRecord,
  state: SocketState,
  connection: LiveConnection,
  receiveBuffer: number,
): SocketImage {
  const { tcp } = record;
  const offsetOf = offsetsOf(record);
  const [una, next] = [offsetOf(state.sendUna), offsetOf(state.sendNext)];
  const receiveNext = toSequence(tcp.clientIsn, record.consumed + state.unread.length);
  const last = record.output.at(-1);
  const fin = last?.fin ? last.offset : undefined;
  const finSent = fin !== undefined && next > fin;
  if (next > outputEnd(record)) throw new RefusedError("more was sent than its record promises");
  return {
    ...endpointsOf(record.flow),
    sendUna: state.sendUna,
    receiveNext,
    mss: tcp.mss,
    windowScaling: tcp.windowScaling,
    sendScale: tcp.sendScale,
    receiveScale: tcp.receiveScale,
    sack: tcp.sack,
    timestamps: tcp.timestamps,
    timestampClock: state.timestampClock,
    timestampUsec: state.timestampUsec,
    window: {
      sndWl1: state.windowWl1,
      sndWnd: state.windowSend,
      maxWindow: state.windowMax,
      rcvWnd: widestWindow(tcp),
      rcvWup: receiveNext,
    },
    receiveQueue: state.unread,
    sendQueue: connection.output.bytes(una, fin === undefined ? next : Math.min(next, fin)),
    unsentQueue: Buffer.alloc(0),
    state: !finSent ? ESTABLISHED : una > fin ? FIN_WAIT2 : FIN_WAIT1,
    options: {
      nodelay: state.nodelay,
      keepalive: state.keepalive,
      keepIdleS: state.keepIdleS,
      keepIntervalS: state.keepIntervalS,
      keepCount: state.keepCount,
      congestion: state.congestion,
      receiveBuffer, // not the former socket's, whose clamp the kernel has raised: it would grow with every move
    },
  };
}
