import { BatonError } from "../../proto/errors.js";
import type { Offset } from "../../proto/sequence.js";

/**
 * The client's stream as far as it was read:
 *
 *     0 ........ processed ................. taken ............ received [FIN] = consumed
 *     used by layers │ handed on, and kept     │ read, and not used yet
 *                    └ beside the record ┐
 *                                     spilled ──── held: the record's spool ────┘
 *
 * Only what is taken spills. Nothing is spilled where `spilled` is not above `processed`.
 */
export class Input {
  /** Of what is held. */
  private chunks: Buffer[] = [];
  private used: Offset;
  private end: Offset;
  private finished: boolean;
  private takenTo: Offset = 0;

  /** @param consumed as in a record: counts the client's FIN as one. */
  constructor(
    processed: Offset,
    consumed: Offset,
    clientFinished: boolean,
    private spilledTo: Offset = 0,
  ) {
    this.used = processed;
    this.end = consumed - (clientFinished ? 1 : 0);
    this.finished = clientFinished;
  }

  get processed(): Offset {
    return this.used;
  }
  get spilled(): Offset {
    return this.spilledTo;
  }
  get received(): Offset {
    return this.end;
  }
  get ended(): boolean {
    return this.finished;
  }
  get consumed(): Offset {
    return this.end + (this.finished ? 1 : 0);
  }
  /** Bytes that no layer is done with. */
  get waiting(): number {
    return this.end - this.used;
  }
  /** Bytes that no layer has even handed on. */
  get untaken(): number {
    return this.end - this.taken;
  }
  /** Bytes that the record has to have. */
  get held(): number {
    return this.end - this.heldFrom;
  }
  get taken(): Offset {
    return Math.max(this.used, this.takenTo);
  }
  private get heldFrom(): Offset {
    return Math.max(this.used, this.spilledTo);
  }

  receive(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.end += chunk.length;
  }

  /** A record's spool: bytes that count as received already. */
  refill(spool: Buffer): void {
    if (spool.length !== this.held) {
      throw new BatonError("RECORD_INVALID", `the spool has ${spool.length} bytes, the record says ${this.held}`);
    }
    this.chunks = spool.length > 0 ? [spool] : [];
  }

  finish(): void {
    this.finished = true;
  }

  /** Everything below `offset` was used. */
  use(offset: Offset): void {
    if (offset < this.used || offset > this.end) {
      throw new BatonError("INTERNAL", `input used up to ${offset}, of ${this.used}..${this.end}`);
    }
    const from = this.heldFrom;
    this.used = offset;
    this.drop(this.heldFrom - from);
  }

  /** Everything below `offset` was handed on, but may be needed again. */
  take(offset: Offset): void {
    if (offset > this.end) throw new BatonError("INTERNAL", `input taken up to ${offset}, of ${this.end}`);
    this.takenTo = Math.max(this.takenTo, offset);
  }

  /** What could be spilled, from `from` on. */
  spillable(): { from: Offset; bytes: Buffer } {
    const from = this.heldFrom;
    return { from, bytes: this.spool().subarray(0, Math.max(0, this.taken - from)) };
  }

  /** Everything below `offset` is beside the record. */
  spill(offset: Offset): void {
    const from = this.heldFrom;
    this.spilledTo = Math.max(this.spilledTo, offset);
    this.drop(this.heldFrom - from);
  }

  spool(): Buffer {
    return this.chunks.length === 1 ? (this.chunks[0] as Buffer) : Buffer.concat(this.chunks);
  }

  private drop(bytes: number): void {
    let drop = bytes;
    while (drop > 0) {
      const first = this.chunks[0] as Buffer;
      if (first.length > drop) {
        this.chunks[0] = first.subarray(drop);
        return;
      }
      drop -= first.length;
      this.chunks.shift();
    }
  }
}
