import { rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { BatonError } from "../proto/errors.js";

/** A line is one connection's state at most, whose spool is bounded by limits.inputBytes; base64 adds a third. */
const LINE_MAX = 32 * 1024 * 1024;
const CONNECT_MS = 2_000;

/** What two processes of one host say to each other over a Unix socket, a line of JSON each. Only root may open it. */
export class Channel<In, Out> {
  /** Resolves when the other side is gone, or has closed it. */
  readonly closed: Promise<void>;
  private readonly parts: Buffer[] = [];
  private length = 0;
  private early: In[] = [];
  private take: ((message: In) => void) | undefined;

  constructor(private readonly socket: Socket) {
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
    socket.on("error", () => {}); // its "close" says the rest
    socket.on("data", (chunk: Buffer) => this.read(chunk));
  }

  /** Throws AGENT_UNAVAILABLE where nobody listens. */
  static async connect<In, Out>(path: string): Promise<Channel<In, Out>> {
    const socket = connect({ path });
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string, cause?: Error) => {
        socket.destroy();
        reject(new BatonError("AGENT_UNAVAILABLE", `Nobody answers on ${path}: ${why}.`, cause));
      };
      const timer = setTimeout(fail, CONNECT_MS, "no answer in time");
      socket.once("error", (error: NodeJS.ErrnoException) => {
        clearTimeout(timer);
        fail(error.code ?? error.message, error);
      });
      socket.once("connect", () => {
        clearTimeout(timer);
        resolve();
      });
    });
    return new Channel<In, Out>(socket);
  }

  send(message: Out): void {
    if (!this.socket.destroyed) this.socket.write(`${JSON.stringify(message)}\n`);
  }

  /** Everything that comes, from the first message on. */
  onMessage(take: (message: In) => void): void {
    this.take = take;
    for (const message of this.early.splice(0)) take(message);
  }

  /** Ends when what was sent has left. */
  close(): void {
    this.socket.end();
  }

  destroy(): void {
    this.socket.destroy();
  }

  private read(chunk: Buffer): void {
    let rest = chunk;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = Buffer.concat([...this.parts.splice(0), rest.subarray(0, end)]);
      rest = rest.subarray(end + 1);
      this.length = 0;
      this.say(line);
    }
    this.length += rest.length;
    if (this.length > LINE_MAX) this.destroy();
    else if (rest.length > 0) this.parts.push(rest);
  }

  private say(line: Buffer): void {
    try {
      this.put(JSON.parse(line.toString("utf8")) as In);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      this.destroy(); // not one of ours
    }
  }

  private put(message: In): void {
    if (this.take) this.take(message);
    else this.early.push(message);
  }
}

/** Listens on a Unix socket, whose file it replaces. Throws where that is not possible. */
export async function listenForChannels<In, Out>(
  path: string,
  open: (channel: Channel<In, Out>) => void,
): Promise<{ close(): void }> {
  rmSync(path, { force: true });
  const server: Server = createServer((socket) => open(new Channel<In, Out>(socket)));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  return { close: () => void server.close() };
}
