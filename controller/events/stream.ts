import { BatonError } from "../../proto/errors.js";

/** A queue between a writer that never waits and one reader. A reader that falls `bound` items behind gets an error. */
export class BoundedStream<T> implements AsyncIterableIterator<T> {
  readonly #bound: number;
  readonly #queue: T[];
  readonly #closed: () => void;
  #waiting: { resolve: (result: IteratorResult<T>) => void; reject: (error: Error) => void } | undefined;
  #end: "open" | "done" | "overflow" = "open";

  /** @param first what the reader gets before anything pushed; not counted in the bound. */
  constructor(first: T[], bound: number, closed: () => void) {
    this.#queue = first;
    this.#bound = bound + first.length;
    this.#closed = closed;
  }

  push(item: T): void {
    if (this.#end !== "open") return;
    if (this.#waiting) {
      this.#waiting.resolve({ value: item, done: false });
      this.#waiting = undefined;
    } else if (this.#queue.length < this.#bound) {
      this.#queue.push(item);
    } else {
      this.#end = "overflow";
      this.#queue.length = 0;
      this.#closed();
    }
  }

  async next(): Promise<IteratorResult<T>> {
    const item = this.#queue.shift();
    if (item !== undefined) return { value: item, done: false };
    if (this.#end === "overflow") throw new BatonError("LIMIT_REACHED", "The reader of the stream is too slow.");
    if (this.#end === "done") return { value: undefined, done: true };
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  /** Ends the stream; also called when a reader leaves its loop. */
  async return(): Promise<IteratorResult<T>> {
    if (this.#end === "open") {
      this.#end = "done";
      this.#closed();
    }
    this.#queue.length = 0;
    this.#waiting?.resolve({ value: undefined, done: true });
    this.#waiting = undefined;
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
