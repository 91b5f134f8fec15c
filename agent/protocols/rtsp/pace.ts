/** Does something again and again, never twice at a time, until it says that it is done, or is stopped. */
export class Pace {
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> = Promise.resolve();
  private stopped = false;

  /**
   * @param step milliseconds until the next time; undefined: that was the last. Must not reject
   */
  constructor(private readonly step: () => Promise<number | undefined>) {}

  start(afterMs: number): void {
    if (this.stopped) return;
    this.timer = setTimeout(() => {
      this.running = this.run();
    }, afterMs);
  }

  /** No more of it. Resolves when what is under way is done. */
  stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timer);
    return this.running;
  }

  private async run(): Promise<void> {
    const afterMs = await this.step();
    if (afterMs !== undefined) this.start(afterMs);
  }
}
