const HEAD_LINES = 12;
const TAIL_LINES = 24;
const LINE_CHARS_MAX = 300;

/** One that failed, and what it said of it: repeated at the run's end, where whoever looks finds it. */
export class Failure {
  readonly #head: string[] = [];
  /** What a program that was started has said last tells why it failed. */
  readonly #tail: string[] = [];
  #left = 0;

  constructor(readonly title: string) {}

  add(line: string): void {
    const short = line.slice(0, LINE_CHARS_MAX);
    if (this.#head.length < HEAD_LINES) return void this.#head.push(short);
    if (this.#tail.push(short) <= TAIL_LINES) return;
    this.#tail.shift();
    this.#left++;
  }

  /** The title, and below it the first and the last of what was said. */
  lines(): string[] {
    return [this.title, ...this.#head, ...(this.#left > 0 ? [`    [${this.#left} lines]`] : []), ...this.#tail];
  }
}
