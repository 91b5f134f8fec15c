import type { Flow } from "./flow.js";
import type { Phase } from "./vocabulary.js";

/** What was found on the wire and this version has no name for: kept, and written again at the end of its message. */
export type UnknownField = { tag: number; value: unknown };

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

/**
 * The shared state of one connection; the fields' meaning is written in record.proto. Offsets are 64-bit on the wire and
 * safe integers here.
 */
export interface ConnectionRecord {
  version: 1;
  id: string;
  serverId: string;
  incarnation: number;
  epoch: number;
  takenAtUs: number;
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
