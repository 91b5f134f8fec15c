const UNITS: Record<string, number> = { k: 1024, M: 1024 ** 2, G: 1024 ** 3 };
/** What was not read in time is not made up for by a burst. */
const LATE_MS_MAX = 20;

/** Lets a reader go on at a rate, smoothly, until it is lifted. */
export class Pace {
  #bytesPerMs: number;
  #dueAt = 0;
  #goOn = () => {};

  /** @param rate as "20M", which is 20 MiB a second */
  constructor(rate: string) {
    const [, number, unit] = /^(\d+)([kMG])$/.exec(rate) ?? [];
    if (unit === undefined) throw new Error(`${rate} is no rate`);
    this.#bytesPerMs = (Number(number) * UNITS[unit]!) / 1000;
  }

  /** Resolves when this many more bytes are due. */
  async taken(bytes: number): Promise<void> {
    const now = performance.now();
    this.#dueAt = Math.max(this.#dueAt, now - LATE_MS_MAX) + bytes / this.#bytesPerMs;
    const waitMs = this.#dueAt - now;
    if (waitMs < 1) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, waitMs);
      this.#goOn = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** From now on nothing is waited for. */
  lift(): void {
    this.#bytesPerMs = Number.POSITIVE_INFINITY;
    this.#dueAt = 0;
    this.#goOn();
  }
}
