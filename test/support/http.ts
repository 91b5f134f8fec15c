import { createHash } from "node:crypto";
import type { Socket } from "node:net";

export interface Head {
  status: number;
  headers: Record<string, string>;
}
export interface Response extends Head {
  bytes: number;
  sha256: string;
}

/** Reads HTTP/1.1 responses with a Content-Length, one after the other, from a socket; nothing is read ahead of a call. */
export class ResponseReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.#chunks = socket.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
  }

  /** @param headOnly the answer to a HEAD request: Content-Length, but no body */
  async next(headOnly = false): Promise<Response> {
    const head = await this.head();
    const bytes = headOnly ? 0 : Number(head.headers["content-length"] ?? 0);
    return { ...head, bytes, sha256: await this.digest(bytes) };
  }

  /** Status line and headers; the body is the caller's to read. */
  async head(): Promise<Head> {
    let end = this.#rest.indexOf("\r\n\r\n");
    while (end < 0) {
      this.#rest = Buffer.concat([this.#rest, await this.#chunk()]);
      end = this.#rest.indexOf("\r\n\r\n");
    }
    const [first, ...lines] = this.#rest.toString("latin1", 0, end).split("\r\n");
    const pairs = lines.map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    });
    this.#rest = this.#rest.subarray(end + 4);
    return { status: Number(first!.split(" ")[1]), headers: Object.fromEntries(pairs) };
  }

  /** Reads exactly that many bytes. @returns their SHA-256 */
  async digest(bytes: number): Promise<string> {
    const hash = createHash("sha256");
    await this.read(bytes, hash);
    return hash.digest("hex");
  }

  /** Reads exactly that many bytes into a hash. */
  async read(bytes: number, hash: { update(chunk: Buffer): unknown }): Promise<void> {
    for (let left = bytes; left > 0; ) {
      if (this.#rest.length === 0) this.#rest = await this.#chunk();
      const part = this.#rest.subarray(0, left);
      hash.update(part);
      left -= part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
  }

  /** Resolves to whether the server ended the stream without another byte. */
  async ended(): Promise<boolean> {
    return this.#rest.length === 0 && (await this.#chunks.next()).done === true;
  }

  async #chunk(): Promise<Buffer> {
    const { value, done } = await this.#chunks.next();
    if (done) throw new Error("the server ended the stream");
    return value;
  }
}

/** A request with nothing that a test did not ask for. */
export function get(path: string, headers: Record<string, string> = {}, method = "GET"): string {
  const lines = Object.entries({ host: "baton.test", ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n`;
}
