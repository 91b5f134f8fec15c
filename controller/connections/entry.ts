import { endpointText, type Flow } from "../../proto/flow.js";
import { type ConnectionRecord, decodeRecord, pieceLength } from "../../proto/record.js";
import type { Phase } from "../../proto/vocabulary.js";

/** What is kept of a record at hand: little, because there may be 100,000. The rest is decoded on demand. */
export class ConnectionEntry {
  readonly id: string;
  /** Of the key in the store. */
  readonly revision: number;
  /**
   * The record as it was written, a byte a character. A Buffer of its own would cost 200 bytes more each and lie outside
   * the heap, where what is replaced is given back late.
   */
  readonly #bytes: string;
  readonly client: string;
  readonly vip: string;
  readonly transport: string;
  readonly service: string;
  readonly protocol: string;
  readonly serverId: string;
  readonly incarnation: number;
  readonly epoch: number;
  readonly phase: Phase;
  readonly bundle: string;
  readonly bornAtUs: number;
  /** Of our stream, acknowledged by the client at the commit; bytes. */
  readonly floor: number;
  /** Of the client's stream, recorded; bytes. */
  readonly consumed: number;
  /** What the client was receiving at the commit; "" = no object. */
  readonly object: string;
  /** Position in it. */
  readonly objectOffset: number;
  /** "" = protected. */
  readonly unprotectedReason: string;

  /** Throws RECORD_INVALID or RECORD_VERSION. */
  constructor(id: string, revision: number, bytes: Uint8Array) {
    const record = decodeRecord(bytes);
    this.id = id;
    this.revision = revision;
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
    this.client = endpointText(record.flow.client);
    this.vip = endpointText(record.flow.vip);
    this.transport = record.flow.transport;
    this.service = record.service;
    this.protocol = record.protocol;
    this.serverId = record.serverId;
    this.incarnation = record.incarnation;
    this.epoch = record.epoch;
    this.phase = record.phase;
    this.bundle = record.bundleId;
    this.bornAtUs = record.bornAtUs;
    this.floor = record.floor;
    this.consumed = record.consumed;
    this.unprotectedReason = record.unprotectedReason;
    [this.object, this.objectOffset] = objectAtFloor(record);
  }

  /** The whole record. */
  record(): ConnectionRecord {
    return decodeRecord(this.bytes());
  }

  bytes(): Buffer {
    return Buffer.from(this.#bytes, "latin1");
  }

  flow(): Flow {
    return this.record().flow;
  }
}

/** The object of the piece at the floor, or of the last one before it; and the position in it. */
function objectAtFloor({ output, floor }: ConnectionRecord): [object: string, offset: number] {
  let found: [string, number] = ["", 0];
  for (const piece of output) {
    if (piece.offset > floor && found[0] !== "") break;
    if (!piece.object) continue;
    const into = Math.min(Math.max(floor - piece.offset, 0), pieceLength(piece));
    found = [piece.object.objectId, piece.object.objectOffset + into];
  }
  return found;
}
