import { BatonError } from "../../proto/errors.js";
import type { Offset } from "../../proto/sequence.js";
import { SPILL_AGE_MAX_MS, type Spills } from "../../proto/store/index.js";
import { life } from "./life.js";

/** Of this process: message ids must not come twice. */
let pieces = 0;

/** The part of one connection's input that is beside its record: one write in flight, which grows with what comes meanwhile. */
export class Spilling {
  private running = false;
  /** Behind what is spilled, and the sequence of its last piece that is needed still. */
  private end: Offset;
  private last: number | undefined;
  /** When the first of its pieces was written, milliseconds. */
  private since: number | undefined;
  /** The body before this one, which a record may need still. */
  private before: { end: Offset; last: number } | undefined;
  /** Pieces are in the store, or may be. */
  private any: boolean;
  private stopped = false;
  private removed = false;

  /**
   * @param spilled where an earlier owner's pieces end; 0 = none
   * @param pieceMin the record has what is less
   */
  constructor(
    private readonly spills: Spills,
    private readonly id: string,
    private readonly writer: string,
    spilled: Offset,
    private readonly pieceMin: number,
  ) {
    this.end = spilled;
    this.any = spilled > 0;
  }

  get isRunning(): boolean {
    return this.running;
  }

  /** It cannot be kept for much longer: the store drops what is old. */
  get isOld(): boolean {
    return this.since !== undefined && Date.now() - this.since > SPILL_AGE_MAX_MS / 2;
  }

  /**
   * Resolves when the bytes are in the store; undefined: they are too few, or a write is in flight already. Rejects where the store is there and
   * does not take them.
   * @param processed what lies below is used
   */
  write(processed: Offset, from: Offset, bytes: Buffer): Promise<Offset> | undefined {
    if (this.running || bytes.length < this.pieceMin) return undefined;
    this.running = true;
    this.any = true;
    if (processed >= this.end && this.last !== undefined) {
      this.before = { end: this.end, last: this.last };
      this.last = undefined;
      this.since = undefined;
    }
    this.since ??= Date.now();
    return this.append(from, bytes);
  }

  /** What an earlier owner has spilled. Throws BatonError. */
  async *read(from: Offset, to: Offset): AsyncGenerator<Buffer, void> {
    for await (const { bytes, sequence, writtenAtMs } of this.spills.read(this.id, from, to)) {
      this.last = sequence;
      this.since ??= writtenAtMs;
      yield bytes;
    }
  }

  /** A record says that everything below `processed` is not needed any more. */
  release(processed: Offset): void {
    if (this.before && processed >= this.before.end) {
      this.purge(this.before.last);
      this.before = undefined;
    }
    if (this.last === undefined || processed < this.end || this.running) return;
    this.purge(this.last); // not what may follow
    this.last = undefined;
    this.since = undefined;
  }

  /** The connection is somebody else's. */
  stop(): void {
    this.stopped = true;
  }

  /** Nothing of it is needed any more. */
  remove(): void {
    this.stopped = true;
    this.removed = true;
    if (this.any && !this.running) this.purge(undefined);
  }

  private async append(from: Offset, bytes: Buffer): Promise<Offset> {
    const messageId = `${this.id}/${this.writer}/${life}/spill/${++pieces}`;
    try {
      for (;;) {
        try {
          this.last = await this.spills.append(this.id, from, bytes, messageId);
          this.end = from + bytes.length;
          return this.end;
        } catch (error) {
          // Its outcome is not known: under the same message id it is there once. Nothing is acknowledged meanwhile; TCP bears it.
          if (this.stopped || !(error instanceof BatonError) || error.code !== "STORE_UNAVAILABLE") throw error;
        }
      }
    } finally {
      this.running = false;
      if (this.removed) this.purge(undefined);
    }
  }

  private purge(upTo: number | undefined): void {
    void this.spills.purge(this.id, upTo);
  }
}
