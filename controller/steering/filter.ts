import { indexKey } from "../../bpf/layout.js";

/** BATON_FILTER_BITS */
const BITS = 22;
/** A bit that so many flows share stays set for ever: a lookup too many, never one too few. */
const COUNT_MAX = 255;

/**
 * The bits that spare the fast path the lookup in `exceptions`: one for the flows of one hash value (its high bits), set while
 * any of them is there. Pure: `takeChanges` says what is to be written.
 */
export class ExceptionFilter {
  private readonly counts = new Uint8Array(2 ** BITS);
  private readonly changed = new Set<number>();

  /** @param hash flowHash */
  add(hash: number): void {
    this.count(hash, 1);
  }

  /** Only for a flow that was added. */
  remove(hash: number): void {
    this.count(hash, -1);
  }

  private count(hash: number, by: 1 | -1): void {
    const bit = hash >>> (32 - BITS);
    const before = this.counts[bit] ?? 0;
    if (before === COUNT_MAX) return;
    this.counts[bit] = before + by;
    if (before === 0 || before + by === 0) this.changed.add(bit >>> 6);
  }

  /** Keys and values of the map's words that changed since the last call, or of all that are not zero. */
  takeChanges(): { keys: Buffer; values: Buffer } {
    const words = [...this.changed];
    this.changed.clear();
    return { keys: Buffer.concat(words.map(indexKey)), values: Buffer.concat(words.map((word) => this.word(word))) };
  }

  private word(index: number): Buffer {
    const bytes = Buffer.alloc(8);
    for (let bit = 0; bit < 64; bit++) {
      if (this.counts[index * 64 + bit]) bytes[bit >> 3]! |= 1 << (bit & 7);
    }
    return bytes;
  }
}
