import type { ConnectionRecord } from "../../proto/record.js";

/** Who waits for a record that was taken after they came, whichever of the following it is. */
export class Recordings {
  private waiting: Array<{ since: number; resolve: () => void }> = [];
  private snapshots = 0;
  private readonly numbers = new WeakMap<ConnectionRecord, number>();

  /** Resolves when a record that is taken from now on is in the store. */
  join(): Promise<void> {
    return new Promise((resolve) => this.waiting.push({ since: this.snapshots, resolve }));
  }

  taken(record: ConnectionRecord): void {
    this.numbers.set(record, ++this.snapshots);
  }

  committed(record: ConnectionRecord): void {
    const number = this.numbers.get(record) ?? 0;
    this.settle(({ since }) => since < number);
  }

  /** Nothing is recorded: nobody need wait. */
  all(): void {
    this.settle(() => true);
  }

  private settle(done: (one: { since: number }) => boolean): void {
    const settled = this.waiting.filter(done);
    this.waiting = this.waiting.filter((one) => !settled.includes(one));
    for (const { resolve } of settled) resolve();
  }
}
