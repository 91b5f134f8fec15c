import type { Socket } from "node:net";

/** Reads lines from a socket, one after the other; nothing is read ahead of a call but the rest of a chunk. */
export class LineReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest = "";

  constructor(socket: Socket) {
    this.#chunks = socket.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
  }

  /** The next line with its end; where the stream ends, what is left without one, and then "". */
  async next(): Promise<string> {
    for (let seen = 0; ; ) {
      const end = this.#rest.indexOf("\n", seen) + 1;
      if (end > 0) return this.#take(end);
      seen = this.#rest.length;
      const { value, done } = await this.#chunks.next();
      if (done) return this.#take(seen);
      this.#rest += value.toString("latin1");
    }
  }

  #take(length: number): string {
    const taken = this.#rest.slice(0, length);
    this.#rest = this.#rest.slice(length);
    return taken;
  }
}
