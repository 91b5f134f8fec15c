import { flowHash } from "../../bpf/maglev.js";
import { type Flow, parseConnectionId } from "../../proto/flow.js";
import { type ConnectionRecord, decodeRecord, ownerOfRecord } from "../../proto/record.js";

/**
 * What is kept of a record at hand: little, because there may be 100,000, and because every change of every record passes here
 * while thousands are taken over. The rest is decoded on demand.
 */
export class ConnectionEntry {
  /**
   * The record as it was written, a byte a character. A Buffer of its own would cost 200 bytes more each and lie outside
   * the heap, where what is replaced is given back late.
   */
  readonly #bytes: string;
  #flowHash: number | undefined;
  readonly serverId: string;
  readonly incarnation: number;

  /**
   * @param revision of the key in the store.
   * Throws RECORD_INVALID.
   */
  constructor(
    readonly id: string,
    readonly revision: number,
    bytes: Uint8Array,
  ) {
    const { serverId, incarnation } = ownerOfRecord(bytes);
    this.serverId = serverId;
    this.incarnation = incarnation;
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
  }

  /** The whole record. Throws RECORD_INVALID or RECORD_VERSION. */
  record(): ConnectionRecord {
    return decodeRecord(this.bytes());
  }

  bytes(): Buffer {
    return Buffer.from(this.#bytes, "latin1");
  }

  flow(): Flow {
    return parseConnectionId(this.id).flow;
  }

  /** The flow's: see flowKey. An id is `<flow>.<client ISN>`. */
  get key(): string {
    return this.id.slice(0, this.id.lastIndexOf("."));
  }

  /** The hash that Maglev goes by. */
  get flowHash(): number {
    this.#flowHash ??= flowHash(this.flow());
    return this.#flowHash;
  }
}
