import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { within } from "../../proto/deadline.js";
import { BatonError } from "../../proto/errors.js";
import type { Spool } from "../native/api.js";
import { linesOf } from "./lines.js";

/** For the next part of a body, while somebody waits for it. A client that takes nothing is no fault of the origin's. */
const IDLE_MS = 60_000;

/** What Node does not name: the libuv handle of a socket. */
interface Handle {
  readonly fd: number;
  readStop(): void;
}

/** The body of an origin's answer, of which nothing was read yet. Exactly one of its methods is to be called, and at once; `discard` at any time. */
export class Body {
  constructor(
    private readonly message: IncomingMessage,
    private readonly idleMs = IDLE_MS,
  ) {
    message.on("error", () => {}); // whoever reads hears of it
  }

  /** All of it. @returns undefined where it has more than `max` bytes; it is discarded then. Rejects where it ends early. */
  async collect(max: number): Promise<Buffer | undefined> {
    const parts: Buffer[] = [];
    let length = 0;
    for await (const part of this.parts()) {
      parts.push(part);
      length += part.length;
      if (length > max) return undefined; // leaving the loop ends the connection
    }
    return Buffer.concat(parts);
  }

  /** All of it, where that has come with the head and is no more than `max` bytes; undefined else, and nothing is taken then. */
  atOnce(max: number): Buffer | undefined {
    const { message } = this;
    if (!message.complete || message.readableLength > max) return undefined;
    const bytes: Buffer | null = message.read();
    message.resume(); // the connection is free at its end
    return bytes ?? Buffer.alloc(0);
  }

  /** All of it, as it comes. Rejects where it ends early, or stands still while it is waited for. */
  async *parts(): AsyncGenerator<Buffer, void> {
    const late = () => new BatonError("UPSTREAM_FAILED", `nothing came of a body for ${this.idleMs} ms`);
    const parts: AsyncIterator<Buffer, void> = this.message[Symbol.asyncIterator]();
    let whole = false;
    try {
      for (;;) {
        const { done, value } = await within(this.idleMs, parts.next(), late);
        if (done) break;
        yield value;
      }
      if (!this.message.complete) throw new BatonError("UPSTREAM_FAILED", "the body ended early");
      whole = true;
    } finally {
      if (!whole) this.discard();
    }
  }

  /** The field lines behind it; once all of it has come. */
  get trailers(): Array<[string, string]> {
    return linesOf(this.message.rawTrailers);
  }

  /**
   * The spool gets all of it: what has come with the head, then the socket itself, on which the body has to be as it is: of a
   * stated length. The connection is not kept afterwards.
   */
  handOver(spool: Spool): void {
    const { message } = this;
    const socket = message.socket as Socket & { _handle?: Handle };
    const came = message.read() as Buffer | null;
    socket._handle?.readStop();
    socket.removeAllListeners("data"); // the parser's
    const raw = socket.read() as Buffer | null;
    for (const part of [came, raw]) if (part) spool.put(part);
    if (socket._handle && !message.complete) spool.attach(socket._handle.fd);
    message.destroy();
  }

  /** There is none, whatever the head says of its length: the connection is kept. */
  none(): void {
    this.message.resume();
  }

  discard(): void {
    this.message.destroy();
  }
}
