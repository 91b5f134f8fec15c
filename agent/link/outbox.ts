import type { TakenOver } from "../../proto/rpc/index.js";

/** Results that wait for one controller. Beyond that the oldest go: the controller learns of them from the store. */
const resultsMax = 200_000;

/** Batches for one controller, in order, until it acknowledges them. */
export class Outbox {
  readonly #batches = new Map<number, { batch: TakenOver; sentAt: number }>();
  #results = 0;

  /** @returns how many results were given up for it. */
  add(batch: TakenOver): number {
    this.#batches.set(batch.batch, { batch, sentAt: 0 });
    this.#results += batch.results.length;
    let lost = 0;
    for (const [number, { batch: oldest }] of this.#batches) {
      if (this.#results <= resultsMax || number === batch.batch) break;
      this.#batches.delete(number);
      this.#results -= oldest.results.length;
      lost += oldest.results.length;
    }
    return lost;
  }

  acknowledge(number: number): void {
    this.#results -= this.#batches.get(number)?.batch.results.length ?? 0;
    this.#batches.delete(number);
  }

  /** What was not sent since `before` (milliseconds of any clock), marked as sent at `now`. */
  due(before: number, now: number): TakenOver[] {
    const due: TakenOver[] = [];
    for (const entry of this.#batches.values()) {
      if (entry.sentAt > before) continue;
      entry.sentAt = now;
      due.push(entry.batch);
    }
    return due;
  }

  get results(): number {
    return this.#results;
  }
}
