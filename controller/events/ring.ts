/** The last `size` items, oldest first; adding is O(1). */
export class Ring<T> {
  readonly #size: number;
  readonly #items: T[] = [];
  #next = 0;

  constructor(size: number) {
    this.#size = size;
  }

  get length(): number {
    return this.#items.length;
  }

  push(item: T): void {
    this.#items[this.#next] = item;
    this.#next = (this.#next + 1) % this.#size;
  }

  /** The last `count` items, oldest first. */
  last(count: number): T[] {
    const start = this.#items.length < this.#size ? 0 : this.#next;
    const ordered = [...this.#items.slice(start), ...this.#items.slice(0, start)];
    return count >= ordered.length ? ordered : ordered.slice(ordered.length - count);
  }
}
