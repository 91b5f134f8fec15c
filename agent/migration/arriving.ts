import { within } from "../../proto/deadline.js";
import { RefusedError } from "../../proto/errors.js";
import {
  type ConnectionRecord,
  decodeRecord,
  encodeRecord,
  type ObjectReference,
  outputEnd,
} from "../../proto/record.js";
import type { FrozenConnection, SocketState } from "../../proto/rpc/index.js";
import { type Offset, type Sequence, toOffset, toSequence } from "../../proto/sequence.js";
import type { LiveConnection } from "../connection/connection.js";
import { endpointsOf } from "../connection/host.js";
import type { ConnectionTable } from "../connection/table.js";
import type { SocketImage } from "../native/api.js";
import type { OpenObject } from "../protocols/application.js";
import { acknowledgement, saidBy } from "../restore/acknowledgement.js";
import { negotiated } from "../restore/negotiated.js";
import { widestWindow } from "../restore/receive_window.js";
import type { RepairSocket } from "../restore/repair_socket.js";
import { beginUnready, prepareUnready } from "../restore/unready.js";

const [ESTABLISHED, FIN_WAIT1, FIN_WAIT2] = [1, 4, 5];

/** What is opened of an object may be good for this part of it alone. */
export function nameOf({ objectId, validator, objectOffset, length }: ObjectReference): string {
  return `${validator} ${objectOffset} ${length} ${objectId}`;
}

/** One frozen connection on its way here: `rebuild`, and once it is this server's `goLive`; or `undo`. */
export class Arriving {
  /** This server's, once it is claimed. */
  readonly record: ConnectionRecord;
  /** Of the record in the store, as the former owner left it. */
  readonly revision: number;
  connection: LiveConnection | undefined;
  private readonly state: SocketState;
  private socket: RepairSocket | undefined;
  private image: SocketImage | undefined;

  /** Throws RECORD_INVALID, RECORD_VERSION, RefusedError. */
  constructor(
    private readonly table: ConnectionTable,
    { record, revision, socket }: FrozenConnection,
  ) {
    const { serverId, incarnation, writer } = table.host;
    const frozen = decodeRecord(record);
    if (!socket) throw new RefusedError("no socket state");
    this.record = { ...frozen, serverId, incarnation, writer, epoch: frozen.epoch + 1, phase: "UNREADY" };
    this.revision = revision;
    this.state = socket;
    this.from = frozen.serverId;
  }

  private readonly from: string;

  /** Everything but the claim; nothing of it is heard outside. @param objects that are open already, by nameOf; those that it uses are taken out */
  async rebuild(objects: Map<string, OpenObject>, deadlineMs: number): Promise<void> {
    const { table, record, revision, state } = this;
    const { connection, socket } = beginUnready(table, record, revision, "FROZEN", state.unread.length);
    this.connection = connection;
    this.socket = socket;
    connection.history.add("arriving", "", `from ${this.from}, epoch ${record.epoch}`);
    const opened = (object: ObjectReference) => {
      const file = objects.get(nameOf(object));
      objects.delete(nameOf(object));
      return file;
    };
    const [missing] = await prepareUnready(table, connection, record, opened);
    if (missing) throw missing.refusal;
    const offsetOf = offsetsOf(record);
    const { sendUna, sendNext } = state;
    const late = () => new RefusedError("its upstream does not answer");
    await within(deadlineMs, connection.output.fetch(offsetOf(sendUna), offsetOf(sendNext)), late);
    this.image = imageOf(record, state, connection, table.host.limits.inputBytes);
    socket.rebuild(this.image);
  }

  /** It is this server's. @param revision of its record in the store by now. Where it throws, nothing of it is left here. */
  goLive(revision: number): void {
    const { connection, socket, image, record, state, table } = this;
    const { guard, native } = table.host;
    if (!connection || !socket || !image) throw new RefusedError("it is not rebuilt");
    const offsetOf = offsetsOf(record);
    const fd = socket.take();
    try {
      connection.phase.move("READY");
      const said = saidBy(record.tcp, image, state.echo);
      guard.change(record.flow, { phase: "LIVE", sendNext: state.sendNext, said });
      native.activate(fd, image);
      connection.claimed(revision);
      connection.resume(fd, offsetOf(state.sendUna), record.spool, offsetOf(state.sendNext));
      connection.phase.move("LIVE");
      table.addLive(connection);
      if (state.acknowledged !== image.receiveNext) {
        native.sendSegments([acknowledgement(record.flow, record.tcp, image, state.sendNext, state.echo)]);
      }
    } catch (error) {
      if (!connection.hasSocket) native.closeInRepair(fd);
      throw error;
    }
  }

  /** Nothing of it is left here; its record is whoever's it is. */
  undo(reason: string): void {
    this.socket?.close();
    if (!this.connection) return;
    this.table.host.guard.remove(this.connection.flow);
    this.connection.lost(reason);
  }

  get bytes(): Buffer {
    return encodeRecord(this.record);
  }
}

/** Offsets of our stream by their sequence numbers. */
function offsetsOf({ tcp, floor }: ConnectionRecord): (sequence: Sequence) => Offset {
  return (sequence) => toOffset(tcp.serverIsn, sequence, floor);
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
    ...negotiated(tcp),
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
