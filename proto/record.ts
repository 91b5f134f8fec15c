import protobuf from "protobufjs/minimal.js";
import { BatonError } from "./errors.js";
import { addressBytes, addressText, type Flow, type Transport } from "./flow.js";
import { baton } from "./gen/record.js";
import { keepUnknown, type UnknownField } from "./unknown.js";
import { type Phase, phases } from "./vocabulary.js";

const { v1 } = baton;

/** The schema's version that this program writes and reads. */
export const RECORD_VERSION = 1;
/** On the wire, of a record that does not have all of its input itself: who does not know that would go on wrongly. */
const SPILLED_VERSION = 2;

/** Of ConnectionRecord in record.proto. */
const SERVER_ID_FIELD = 3;
const INCARNATION_FIELD = 4;
const BUNDLE_ID_FIELD = 7;

/** TCP's part of a record. Sequence numbers and the clock are unsigned 32-bit numbers; see TcpState in record.proto. */
export interface TcpState {
  clientIsn: number;
  serverIsn: number;
  clientSeq: number;
  serverSeq: number;
  mss: number;
  sendScale: number;
  receiveScale: number;
  windowScaling: boolean;
  sack: boolean;
  timestamps: boolean;
  timestampClock: number;
  timestampUsec: boolean;
  unknown?: UnknownField[];
}

/** What one protocol layer appended to the data block. */
export interface LayerSection {
  layer: string;
  version: number;
  state: Buffer;
  unknown?: UnknownField[];
}

/** Bytes of an object which any server that has the object can make again. Offsets and lengths in bytes. */
export interface ObjectReference {
  objectId: string;
  /** "sha256:<hex>", "mtime+size:<...>"; "" only while the digest is pending. */
  validator: string;
  /** Of the reference's first byte in the object. */
  objectOffset: number;
  length: number;
  unknown?: UnknownField[];
}

/** A promise: bytes of our stream from `offset` on, or our FIN, which takes one sequence number at `offset`. */
export type OutputPiece = { offset: number; unknown?: UnknownField[] } & (
  | { literal: Buffer; object?: undefined; fin?: undefined }
  | { object: ObjectReference; literal?: undefined; fin?: undefined }
  | { fin: true; literal?: undefined; object?: undefined }
);

/** A flow of a bundle that has no record: UDP. Offsets and bytes in bytes. */
export interface RelatedFlow {
  transport: Transport;
  /** 0: any. */
  clientPort: number;
  vipPort: number;
  /** Where it is not the control connection's: a multicast group, for instance. */
  clientAddress?: string;
  /** What it carries: "video rtp". */
  name: string;
  /** Sent so far. */
  bytes: number;
  unknown?: UnknownField[];
}

/**
 * The shared state of one connection; the fields' meaning is written in record.proto. Offsets are 64-bit on the wire and
 * safe integers here. `unknown` (here and in the nested values): fields of a later version, written back as they came;
 * who changes a record copies it with `{ ...record }`.
 */
export interface ConnectionRecord {
  version: typeof RECORD_VERSION;
  id: string;
  serverId: string;
  incarnation: number;
  epoch: number;
  takenAtUs: number;
  /** Id of the control connection that this one goes with, its own where it is one; "": by itself. */
  bundleId: string;
  flow: Flow;
  service: string;
  protocol: string;
  tcp: TcpState;
  layers: LayerSection[];
  output: OutputPiece[];
  floor: number;
  /** One byte; empty while `floor` is 0. */
  floorByte: Buffer;
  consumed: number;
  clientFinished: boolean;
  spool: Buffer;
  phase: Phase;
  unprotectedReason: string;
  writer: string;
  bornAtUs: number;
  processed: number;
  /** See Input in agent/connection/input.ts; at most `processed` where nothing of it is beside the record. */
  spilled: number;
  /** Of a control connection: flows of its bundle that have no record. Left out where there is none. */
  flows?: RelatedFlow[];
  unknown?: UnknownField[];
}

/** A dead server's connections being taken over; see record.proto. */
export interface Takeover {
  id: string;
  serverId: string;
  incarnation: number;
  survivors: string[];
  declaredAtUs: number;
  reason: string;
  finished: boolean;
  suspectedAtUs: number;
  round: number;
  unknown?: UnknownField[];
}

/** Whether a record is of a connection that is related to another one. */
export function isRelated({ id, bundleId }: Pick<ConnectionRecord, "id" | "bundleId">): boolean {
  return bundleId !== "" && bundleId !== id;
}

/** How much of our stream the piece takes: bytes, 1 for the FIN. */
export function pieceLength(piece: OutputPiece): number {
  return piece.literal?.length ?? piece.object?.length ?? 1;
}

/** Our stream's offset behind everything that the record promises. */
export function outputEnd(record: Pick<ConnectionRecord, "output" | "floor">): number {
  const last = record.output.at(-1);
  return last ? last.offset + pieceLength(last) : record.floor;
}

/** Whether our FIN is promised; it is the last piece then. */
export function finPromised(record: Pick<ConnectionRecord, "output">): boolean {
  return record.output.at(-1)?.fin === true;
}

/** Throws RECORD_INVALID where the record breaks one of its own rules (see `invariants`). */
export function encodeRecord(record: ConnectionRecord): Buffer {
  return encoding("record", record.id, () => {
    invariants(record);
    return v1.ConnectionRecord.encode({
      ...record,
      version: record.spilled > record.processed ? SPILLED_VERSION : record.version,
      incarnation: counter(record.incarnation),
      epoch: counter(record.epoch),
      takenAtUs: counter(record.takenAtUs),
      bornAtUs: counter(record.bornAtUs),
      flow: {
        clientAddress: addressBytes(record.flow.client.address),
        clientPort: record.flow.client.port,
        vipAddress: addressBytes(record.flow.vip.address),
        vipPort: record.flow.vip.port,
        transport: transportNumber(record.flow.transport),
      },
      flows: record.flows?.map((flow) => ({
        ...flow,
        transport: transportNumber(flow.transport),
        clientAddress: flow.clientAddress === undefined ? Buffer.alloc(0) : addressBytes(flow.clientAddress),
        bytes: counter(flow.bytes),
      })),
      phase: phases.indexOf(record.phase) + 1,
    });
  });
}

/** Throws RECORD_VERSION or RECORD_INVALID. The result shares no memory with `bytes`. */
export function decodeRecord(bytes: Uint8Array): ConnectionRecord {
  return decoding("record", () => {
    const wire = v1.ConnectionRecord.decode(Buffer.from(bytes));
    if (wire.version !== RECORD_VERSION && wire.version !== SPILLED_VERSION) {
      throw new BatonError(
        "RECORD_VERSION",
        `record "${wire.id}" has version ${wire.version}, known is ${SPILLED_VERSION}`,
      );
    }
    const phase = phases[wire.phase - 1];
    if (!phase) throw new TypeError(`phase ${wire.phase}`);
    if (!wire.tcp) throw new TypeError("no TCP state");
    const record: ConnectionRecord = {
      version: RECORD_VERSION,
      id: wire.id,
      serverId: wire.serverId,
      incarnation: number(wire.incarnation),
      epoch: number(wire.epoch),
      takenAtUs: number(wire.takenAtUs),
      bundleId: wire.bundleId,
      flow: decodeFlow(wire.flow),
      service: wire.service,
      protocol: wire.protocol,
      tcp: plainTcpState(wire.tcp),
      layers: wire.layers.map(decodeSection),
      output: wire.output.map(decodePiece),
      floor: number(wire.floor),
      floorByte: buffer(wire.floorByte),
      consumed: number(wire.consumed),
      clientFinished: wire.clientFinished,
      spool: buffer(wire.spool),
      phase,
      unprotectedReason: wire.unprotectedReason,
      writer: wire.writer,
      bornAtUs: number(wire.bornAtUs),
      processed: number(wire.processed),
      spilled: number(wire.spilled),
      ...(wire.flows.length > 0 ? { flows: wire.flows.map(decodeRelatedFlow) } : {}),
      ...unknownOf(wire),
    };
    invariants(record);
    return record;
  });
}

/**
 * Whose a record is and of which bundle, without the cost of decoding it: every server sees every record, and needs most of them only
 * for this. Throws RECORD_INVALID.
 */
export function ownerOfRecord(bytes: Uint8Array): Pick<ConnectionRecord, "serverId" | "incarnation" | "bundleId"> {
  return decoding("record", () => {
    const reader = protobuf.Reader.create(bytes);
    let serverId = "";
    let incarnation: number | undefined;
    let bundleId = "";
    for (let field = 0; reader.pos < reader.len && field < BUNDLE_ID_FIELD; ) {
      const tag = reader.uint32();
      field = tag >>> 3; // encoders write fields in their order
      if (field === SERVER_ID_FIELD) serverId = reader.string();
      else if (field === INCARNATION_FIELD) incarnation = number(reader.uint64());
      else if (field === BUNDLE_ID_FIELD) bundleId = reader.string();
      else reader.skipType(tag & 7);
    }
    if (incarnation === undefined) throw new TypeError("it names no owner");
    return { serverId, incarnation, bundleId };
  });
}

export function encodeTakeover(takeover: Takeover): Buffer {
  return encoding("takeover", takeover.id, () =>
    v1.Takeover.encode({
      ...takeover,
      incarnation: counter(takeover.incarnation),
      declaredAtUs: counter(takeover.declaredAtUs),
      suspectedAtUs: counter(takeover.suspectedAtUs),
      round: counter(takeover.round),
    }),
  );
}

/** Throws RECORD_INVALID. */
export function decodeTakeover(bytes: Uint8Array): Takeover {
  return decoding("takeover", () => {
    const wire = v1.Takeover.decode(Buffer.from(bytes));
    if (!wire.id || !wire.serverId) throw new TypeError("no id");
    return {
      id: wire.id,
      serverId: wire.serverId,
      incarnation: number(wire.incarnation),
      survivors: [...wire.survivors],
      declaredAtUs: number(wire.declaredAtUs),
      reason: wire.reason,
      finished: wire.finished,
      suspectedAtUs: number(wire.suspectedAtUs),
      round: number(wire.round),
      ...unknownOf(wire),
    };
  });
}

/** What `encode` makes, as one buffer; everything thrown becomes RECORD_INVALID. */
export function encoding(what: string, id: string, encode: () => { finish(): Uint8Array }): Buffer {
  try {
    return buffer(encode().finish());
  } catch (error) {
    throw invalid(`${what} "${id}" cannot be written`, error);
  }
}

/** What `decode` makes; everything thrown becomes RECORD_INVALID, errors with a code stay. */
export function decoding<T>(what: string, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    if (error instanceof BatonError) throw error;
    throw invalid(`${what} cannot be read`, error);
  }
}

/** A 64-bit number of the wire (Long, if protobufjs has found that package) as a safe integer. */
export function number(value: unknown): number {
  const { low, high } = value as { low: number; high: number };
  const result = typeof value === "number" ? value : (high >>> 0) * 2 ** 32 + (low >>> 0);
  return counter(result);
}

/** The view of the same bytes as a Buffer. */
export function buffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** The plain value of a generated TcpState; nested values come from the generated decoder, hence with all fields. */
export function plainTcpState(nested: baton.v1.ITcpState): TcpState {
  const wire = nested as baton.v1.TcpState;
  return {
    clientIsn: wire.clientIsn,
    serverIsn: wire.serverIsn,
    clientSeq: wire.clientSeq,
    serverSeq: wire.serverSeq,
    mss: wire.mss,
    sendScale: wire.sendScale,
    receiveScale: wire.receiveScale,
    windowScaling: wire.windowScaling,
    sack: wire.sack,
    timestamps: wire.timestamps,
    timestampClock: wire.timestampClock,
    timestampUsec: wire.timestampUsec,
    ...unknownOf(wire),
  };
}

/**
 * What holds for every record, checked by whoever writes and by whoever reads:
 *
 *   output:  |----------|------------|-------|FIN|     pieces without gaps, none empty, nothing behind the FIN
 *                 ^ floor (floorByte is the byte before)
 *   input:   .......... processed [beside the record] spilled [spool] [client's FIN] consumed
 */
function invariants(record: ConnectionRecord): void {
  const { output, floor } = record;
  for (const value of [floor, record.consumed, record.processed, record.spilled]) counter(value);
  let end = output[0]?.offset ?? floor;
  if (end > floor) throw new RangeError(`output starts at ${end}, the floor is ${floor}`);
  for (const piece of output) {
    if (counter(piece.offset) !== end) throw new RangeError(`output has a gap at ${end}`);
    if (piece.object) counter(piece.object.objectOffset + counter(piece.object.length));
    if (pieceLength(piece) === 0) throw new RangeError(`an empty piece of output at ${end}`);
    if (piece.fin && piece !== output.at(-1)) throw new RangeError("output behind the FIN");
    end += pieceLength(piece);
  }
  if (floor > end) throw new RangeError(`the floor ${floor} lies behind the output's end ${end}`);
  if (record.floorByte.length !== (floor === 0 ? 0 : 1)) throw new RangeError("floor and floorByte do not fit");
  const spoolAt = Math.max(record.processed, record.spilled);
  if (spoolAt + record.spool.length + (record.clientFinished ? 1 : 0) !== record.consumed) {
    throw new RangeError("consumed is not processed or spilled + spool + FIN");
  }
}

/** An unsigned safe integer, or RangeError. */
function counter(value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not an unsigned 53-bit number: ${value}`);
  return value;
}

function decodeFlow(wire: baton.v1.IFlow | null | undefined): Flow {
  const transport = wire?.transport;
  if (!wire || (transport !== v1.Transport.TCP && transport !== v1.Transport.UDP)) throw new TypeError("no flow");
  const port = (value: number | null | undefined) => {
    if (!value || value > 65535) throw new RangeError(`port ${value}`);
    return value;
  };
  return {
    client: { address: addressText(wire.clientAddress ?? new Uint8Array()), port: port(wire.clientPort) },
    vip: { address: addressText(wire.vipAddress ?? new Uint8Array()), port: port(wire.vipPort) },
    transport: transport === v1.Transport.TCP ? "tcp" : "udp",
  };
}

function transportNumber(transport: Transport): baton.v1.Transport {
  return transport === "udp" ? v1.Transport.UDP : v1.Transport.TCP;
}

function decodeRelatedFlow(nested: baton.v1.IRelatedFlow): RelatedFlow {
  const wire = nested as baton.v1.RelatedFlow;
  return {
    transport: wire.transport === v1.Transport.UDP ? "udp" : "tcp",
    clientPort: wire.clientPort,
    vipPort: wire.vipPort,
    ...(wire.clientAddress.length > 0 ? { clientAddress: addressText(wire.clientAddress) } : {}),
    name: wire.name,
    bytes: number(wire.bytes),
    ...unknownOf(wire),
  };
}

function decodeSection(nested: baton.v1.ILayerSection): LayerSection {
  const wire = nested as baton.v1.LayerSection;
  return { layer: wire.layer, version: wire.version, state: buffer(wire.state), ...unknownOf(wire) };
}

function decodePiece(nested: baton.v1.IOutputPiece): OutputPiece {
  const wire = nested as baton.v1.OutputPiece;
  const offset = number(wire.offset);
  const has = (name: string) => Object.hasOwn(wire, name);
  if (Number(has("literal")) + Number(has("object")) + Number(has("fin")) !== 1) {
    throw new TypeError(`the piece of output at ${offset} is of no or of several kinds`);
  }
  if (wire.literal && has("literal")) return { offset, literal: buffer(wire.literal), ...unknownOf(wire) };
  if (!wire.object) {
    if (!wire.fin) throw new TypeError(`a FIN that is none at ${offset}`);
    return { offset, fin: true, ...unknownOf(wire) };
  }
  const object = wire.object as baton.v1.ObjectReference;
  return {
    offset,
    object: {
      objectId: object.objectId,
      validator: object.validator,
      objectOffset: number(object.objectOffset),
      length: number(object.length),
      ...unknownOf(object),
    },
    ...unknownOf(wire),
  };
}

function unknownOf(wire: object): { unknown?: UnknownField[] } {
  const { unknown } = wire as { unknown?: UnknownField[] };
  return unknown ? { unknown } : {};
}

function invalid(message: string, cause: unknown): BatonError {
  return new BatonError("RECORD_INVALID", `${message}: ${cause instanceof Error ? cause.message : cause}`, cause);
}

/** Fields of each message whose unknown ones are kept: number to wire type. A test compares them with record.proto. */
export const wireTypes = {
  ConnectionRecord: {
    1: 0,
    2: 2,
    3: 2,
    4: 0,
    5: 0,
    6: 0,
    7: 2,
    8: 2,
    9: 2,
    10: 2,
    11: 2,
    12: 2,
    13: 2,
    14: 0,
    15: 2,
    16: 0,
    17: 0,
    18: 2,
    19: 0,
    20: 2,
    21: 2,
    22: 0,
    23: 0,
    24: 0,
    25: 2,
  },
  RelatedFlow: { 1: 0, 2: 0, 3: 0, 4: 2, 5: 2, 6: 0 },
  TcpState: { 1: 5, 2: 5, 3: 5, 4: 5, 5: 0, 6: 0, 7: 0, 8: 0, 9: 0, 10: 0, 11: 5, 12: 0 },
  LayerSection: { 1: 2, 2: 0, 3: 2 },
  OutputPiece: { 1: 0, 2: 2, 3: 2, 4: 0 },
  ObjectReference: { 1: 2, 2: 2, 3: 0, 4: 0 },
  Takeover: { 1: 2, 2: 2, 3: 0, 4: 2, 5: 0, 6: 2, 7: 0, 8: 0, 9: 0 },
} as const;

for (const [name, fields] of Object.entries(wireTypes)) keepUnknown(v1[name as keyof typeof wireTypes], fields);
