import type { Offset } from "../../proto/sequence.js";
import type { Output } from "./output.js";

/** Promises that no other server could keep, by the offset of their objects, and why. An entry goes with its object. */
export class Gaps {
  private readonly reasons = new Map<Offset, string>();

  constructor(private readonly output: Output) {}

  open(offset: Offset, reason: string): void {
    this.reasons.set(offset, reason);
  }

  close(offset: Offset): void {
    this.reasons.delete(offset);
  }

  /** The first that matters still; "" where there is none. */
  get reason(): string {
    for (const [offset, reason] of this.reasons) {
      if (this.output.holds(offset)) return reason;
      this.reasons.delete(offset);
    }
    return "";
  }
}
