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

/** Reads HTTP/1.1 responses, one after the other, from a socket; nothing is read ahead of a call. */
export class ResponseReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.#chunks = socket.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
  }

  /** @param headOnly the answer to a HEAD request: Content-Length, but no body */
  async next(headOnly = false): Promise<Response> {
    return this.body(await this.head(), headOnly);
  }

  /** What follows a head that was read. */
  async body(head: Head, headOnly = false): Promise<Response> {
    if (head.headers["transfer-encoding"] === "chunked" && !headOnly) return { ...head, ...(await this.#chunked()) };
    const bytes = headOnly ? 0 : Number(head.headers["content-length"] ?? 0);
    return { ...head, bytes, sha256: await this.digest(bytes) };
  }

  /** Status line and headers; the body is the caller's to read. */
  async head(): Promise<Head> {
    const [first, ...lines] = (await this.#until("\r\n\r\n")).split("\r\n");
    const pairs = lines.map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    });
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

  /** RFC 9112 section 7.1, without extensions and trailers. */
  async #chunked(): Promise<{ bytes: number; sha256: string }> {
    const hash = createHash("sha256");
    for (let bytes = 0; ; ) {
      const length = Number.parseInt(await this.#until("\r\n"), 16);
      await this.read(length, hash);
      await this.#until("\r\n");
      if (length === 0) return { bytes, sha256: hash.digest("hex") };
      bytes += length;
    }
  }

  /** What comes ahead of the mark, which is read as well. */
  async #until(mark: string): Promise<string> {
    let end = this.#rest.indexOf(mark);
    while (end < 0) {
      this.#rest = Buffer.concat([this.#rest, await this.#chunk()]);
      end = this.#rest.indexOf(mark);
    }
    const text = this.#rest.toString("latin1", 0, end);
    this.#rest = this.#rest.subarray(end + mark.length);
    return text;
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
