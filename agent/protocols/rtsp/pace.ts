/** What a step says that is to be done again when it is woken, not before. */
export const UNTIL_WOKEN = Number.POSITIVE_INFINITY;

/** Does something again and again, never twice at a time, until it says that it is done, or is stopped. */
export class Pace {
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> = Promise.resolve();
  private stopped = false;
  private sleeps = false;
  /** Since the last step began. */
  private woken = false;

  /**
   * @param step milliseconds until the next time, or UNTIL_WOKEN; undefined: that was the last. Must not reject
   */
  constructor(private readonly step: () => Promise<number | undefined>) {}

  start(afterMs: number): void {
    if (this.stopped) return;
    if (afterMs === UNTIL_WOKEN && !this.woken) {
      this.sleeps = true;
      return;
    }
    this.timer = setTimeout(
      () => {
        this.running = this.run();
      },
      afterMs === UNTIL_WOKEN ? 0 : afterMs,
    );
  }

  /** What is done until woken goes on. */
  wake(): void {
    this.woken = true;
    if (!this.sleeps) return;
    this.sleeps = false;
    this.start(0);
  }

  /** No more of it. Resolves when what is under way is done. */
  stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timer);
    return this.running;
  }

  private async run(): Promise<void> {
    this.woken = false;
    const afterMs = await this.step();
    if (afterMs !== undefined) this.start(afterMs);
  }
}
