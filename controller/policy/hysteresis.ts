/** Longer without a sample: what was sustained before it is not sustained over it. */
const GAP_MS = 2_000;

/** On after an index has been at 1 or more for a sustained time, off after it has been below the low mark for as long. */
export class Hysteresis {
  private highSince: number | undefined;
  private lowSince: number | undefined;
  private lastAt: number | undefined;
  private onSince: number | undefined;

  constructor(
    private readonly lowMark: number,
    private readonly sustainedMs: number,
  ) {}

  get on(): boolean {
    return this.onSince !== undefined;
  }

  /** When the index rose that turned it on. */
  get since(): number | undefined {
    return this.onSince;
  }

  observe(atMs: number, index: number): void {
    if (this.lastAt !== undefined && atMs - this.lastAt > GAP_MS) {
      this.highSince = undefined;
      this.lowSince = undefined;
    }
    this.lastAt = atMs;
    this.highSince = index >= 1 ? (this.highSince ?? atMs) : undefined;
    this.lowSince = index < this.lowMark ? (this.lowSince ?? atMs) : undefined;
    const sustained = (since: number | undefined) => since !== undefined && atMs - since >= this.sustainedMs;
    if (!this.on && sustained(this.highSince)) this.onSince = this.highSince;
    else if (this.on && sustained(this.lowSince)) this.onSince = undefined;
  }
}
