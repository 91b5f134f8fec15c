import { BatonError } from "../../proto/errors.js";
import type { Offset } from "../../proto/sequence.js";

/**
 * The client's stream as far as it was read:
 *
 *     0 ........ processed ........ received [FIN] = consumed
 *     used by layers    spool: read, kept in the record, not used yet
 */
export class Input {
  private chunks: Buffer[] = [];
  private used: Offset;
  private end: Offset;
  private finished: boolean;

  /** @param consumed as in a record: counts the client's FIN as one. */
  constructor(processed: Offset, consumed: Offset, clientFinished: boolean) {
    this.used = processed;
    this.end = consumed - (clientFinished ? 1 : 0);
    this.finished = clientFinished;
  }

  get processed(): Offset {
    return this.used;
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
  /** Bytes that no layer has used. */
  get waiting(): number {
    return this.end - this.used;
  }

  receive(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.end += chunk.length;
  }

  /** A record's spool: bytes that count as received already. */
  refill(spool: Buffer): void {
    if (spool.length !== this.waiting) {
      throw new BatonError("RECORD_INVALID", `the spool has ${spool.length} bytes, the record says ${this.waiting}`);
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
    let drop = offset - this.used;
    this.used = offset;
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

  spool(): Buffer {
    return this.chunks.length === 1 ? (this.chunks[0] as Buffer) : Buffer.concat(this.chunks);
  }
}
