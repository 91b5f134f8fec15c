const FIRST_MS = 100;
const LONGEST_MS = 5_000;

/** What is to be tried again, each after a delay of its own that doubles; at once when there is reason to hope. */
export class Retries {
  private readonly waiting = new Map<string, { timer: NodeJS.Timeout; begin: () => void }>();
  private begun = 0;

  /** Begun since the start. */
  get total(): number {
    return this.begun;
  }

  /** @param tries how often it was tried; bounded by the caller. */
  later(id: string, tries: number, begin: () => void): void {
    const delayMs = Math.min(LONGEST_MS, FIRST_MS * 2 ** (tries - 1));
    this.waiting.set(id, { timer: setTimeout(() => this.begin(id), delayMs), begin });
  }

  hurry(): void {
    for (const id of [...this.waiting.keys()]) this.begin(id);
  }

  private begin(id: string): void {
    const retry = this.waiting.get(id);
    if (!retry) return;
    clearTimeout(retry.timer);
    this.waiting.delete(id);
    this.begun++;
    retry.begin();
  }
}
