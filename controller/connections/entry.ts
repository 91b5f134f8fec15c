import { flowHash } from "../../bpf/maglev.js";
import { type Flow, parseConnectionId } from "../../proto/flow.js";
import { type ConnectionRecord, decodeRecord, isRelated, ownerOfRecord } from "../../proto/record.js";

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
  /** As the record itself says. */
  readonly #owner: { serverId: string; incarnation: number };
  /** Id of the control connection that it goes with, its own where it is one; "": by itself. */
  readonly bundleId: string;
  /** Of a related connection, as far as it is known: who owns that one owns this one. Set by the index. */
  control: ConnectionEntry | undefined;

  /**
   * @param revision of the key in the store.
   * Throws RECORD_INVALID.
   */
  constructor(
    readonly id: string,
    readonly revision: number,
    bytes: Uint8Array,
  ) {
    const { bundleId, ...owner } = ownerOfRecord(bytes);
    this.bundleId = bundleId;
    this.#owner = owner;
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
  }

  /** Whether it goes where another connection goes: it has no place of its own then, neither in Maglev nor in exceptions and holds. */
  get isRelated(): boolean {
    return isRelated(this);
  }

  get serverId(): string {
    return (this.control ?? this).#owner.serverId;
  }

  get incarnation(): number {
    return (this.control ?? this).#owner.incarnation;
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

  /** The hash that Maglev goes by: a bundle's is its control connection's. */
  get flowHash(): number {
    this.#flowHash ??= flowHash(this.isRelated ? parseConnectionId(this.bundleId).flow : this.flow());
    return this.#flowHash;
  }
}
