import { RefusedError } from "../../proto/errors.js";
import { type ConnectionRecord, type ObjectReference, type OutputPiece, pieceLength } from "../../proto/record.js";
import { type Offset, toSequence } from "../../proto/sequence.js";
import { LiveConnection } from "../connection/connection.js";
import { type ConnectionHost, endpointsOf } from "../connection/host.js";
import { Output } from "../connection/output.js";
import type { ConnectionTable } from "../connection/table.js";
import { guardOption } from "../guard/index.js";
import type { ApplicationLayer, OpenObject } from "../protocols/application.js";
import { RepairSocket } from "./repair_socket.js";

/** An object that cannot be made again here. Matters only if bytes below `end` turn out to be unacknowledged. */
export interface ObjectRefusal {
  end: number;
  refusal: RefusedError;
}

/** An object that is open already, promised at `offset`; its use is the connection's from now on. undefined: it is not. */
export type OpenedObjects = (
  reference: ObjectReference,
  offset: Offset,
  application: ApplicationLayer,
) => OpenObject | undefined | Promise<OpenObject>;

/** The record's promises of objects of which the client lacks bytes, as far as is known. */
export function neededObjects({ output, floor }: ConnectionRecord): Array<OutputPiece & { object: ObjectReference }> {
  return output.filter(
    (piece): piece is OutputPiece & { object: ObjectReference } =>
      piece.object !== undefined && piece.offset + pieceLength(piece) > floor,
  );
}

/** A connection in UNREADY, made from a record; nobody knows of it yet. @param revision of the record in the store. */
export function unreadyConnection(
  host: ConnectionHost,
  record: ConnectionRecord,
  revision: number,
  recorded = true,
): LiveConnection {
  const { clientIsn, serverIsn, mss, sendScale, receiveScale, windowScaling, sack, timestamps } = record.tcp;
  return new LiveConnection(
    host,
    {
      id: record.id,
      bundleId: record.bundleId,
      flow: record.flow,
      service: record.service,
      protocol: record.protocol,
      tcp: { clientIsn, serverIsn, mss, sendScale, receiveScale, windowScaling, sack, timestamps },
      bornAtUs: record.bornAtUs,
      recorded,
    },
    {
      epoch: record.epoch,
      revision,
      position: record.floor,
      floorByte: record.floorByte,
      consumed: record.consumed,
      processed: record.processed,
      clientFinished: record.clientFinished,
      spilled: record.spilled,
      output: new Output(record.output[0]?.offset ?? record.floor),
      phase: "UNREADY",
    },
  );
}

/**
 * A connection in UNREADY, visible to operators, its guard entry in `guardPhase`, no layers yet. The record is this server's
 * already, or becomes it before anything is sent.
 * @param unread bytes behind its input that the socket will hold, and believe to have acknowledged.
 * @returns the connection and its socket, which is the caller's.
 */
export function beginUnready(
  table: ConnectionTable,
  record: ConnectionRecord,
  revision: number,
  guardPhase: "PROBE" | "FROZEN",
  unread = 0,
): { connection: LiveConnection; socket: RepairSocket } {
  const socket = new RepairSocket(table.host.native, endpointsOf(record.flow));
  try {
    return { connection: beginSpeechless(table, record, revision, guardPhase, unread), socket };
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** As beginUnready, without a socket: enough to ask the client for its ack and to reset it. */
export function beginSpeechless(
  table: ConnectionTable,
  record: ConnectionRecord,
  revision: number,
  guardPhase: "PROBE" | "FROZEN",
  unread = 0,
): LiveConnection {
  const { host } = table;
  const { clientIsn, serverIsn, mss, sendScale, receiveScale, windowScaling, sack, timestamps } = record.tcp;
  const connection = unreadyConnection(host, record, revision);
  const last = record.output.at(-1);
  host.guard.install(record.flow, {
    phase: guardPhase,
    incarnation: host.incarnation,
    clientIsn,
    serverIsn,
    consumed: toSequence(clientIsn, record.consumed),
    kernelAck: toSequence(clientIsn, record.consumed + unread),
    sendNext: toSequence(serverIsn, record.floor),
    ...(last?.fin ? { finSeq: toSequence(serverIsn, last.offset) } : {}),
    ...(windowScaling ? { sendScale, receiveScale } : {}),
    options: (sack ? guardOption.SACK : 0) | (timestamps ? guardOption.TIMESTAMPS : 0),
    mss,
  });
  if (connection.isControl) host.bundles.freeze(connection.id); // what is opened ahead does not speak, as the connection does not
  table.addUnready(connection);
  return connection;
}

/**
 * The layers take their sections in, and every object that may be needed is opened and checked. Throws RefusedError where a layer
 * cannot go on.
 * @param opened where it has none an object is opened by its name.
 * @param sources what the application reads from, of this server's former process; taken out once they are the application's.
 */
export async function prepareUnready(
  table: ConnectionTable,
  connection: LiveConnection,
  record: ConnectionRecord,
  opened: OpenedObjects = () => undefined,
  sources: number[] = [],
): Promise<ObjectRefusal[]> {
  const stack = table.createStack(connection, record);
  connection.useStack(stack);
  if (stack.application.takeSources) stack.application.takeSources(sources.splice(0));
  await stack.unready(record.layers);
  const refusals: ObjectRefusal[] = [];
  const needed = new Set<OutputPiece>(neededObjects(record));
  for (const piece of record.output) {
    if (!piece.object || !needed.has(piece)) {
      connection.output.adopt(piece, undefined);
      continue;
    }
    try {
      const object = await opened(piece.object, piece.offset, stack.application);
      connection.output.adopt(piece, object ?? (await stack.application.open(piece.object, false)));
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      refusals.push({ end: piece.offset + pieceLength(piece), refusal: error });
      connection.output.adopt(piece, undefined);
    }
  }
  try {
    await stack.application.gather?.();
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    refusals.push({ end: Number.POSITIVE_INFINITY, refusal: error });
  }
  return refusals;
}
