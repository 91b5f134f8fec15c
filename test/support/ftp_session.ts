import { createHash, type Hash } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import type { Dialer } from "./dialer.js";
import { LineReader } from "./lines.js";

export interface SessionOptions {
  ipv6?: boolean;
  user?: string;
  password?: string;
}

/** A client of FTP that stops at whatever step a test wants it to. */
export class FtpSession {
  private constructor(
    private readonly dialer: Dialer,
    private readonly socket: Socket,
    private readonly lines: LineReader,
    private readonly options: SessionOptions,
    /** The client's port of the control connection. */
    readonly port: number,
  ) {}

  static async open(dialer: Dialer, options: SessionOptions = {}): Promise<FtpSession> {
    const { socket, localPort } = await dialer.connect({ port: 21, ...(options.ipv6 ? { ipv6: true } : {}) });
    socket.on("error", () => {}); // whoever reads it gets to know
    const session = new FtpSession(dialer, socket, new LineReader(socket), options, localPort);
    await session.expect(220);
    await session.command(`USER ${options.user ?? "anonymous"}`, 331);
    await session.command(`PASS ${options.password ?? "x"}`, 230);
    return session;
  }

  say(line: string): void {
    this.socket.write(`${line}\r\n`);
  }

  /** Throws unless the next reply has this code. @returns it, all of its lines */
  async expect(code: number): Promise<string> {
    let reply = "";
    for (;;) {
      const line = await this.lines.next();
      reply += line;
      if (line === "" || new RegExp(`^${code} `).test(line)) break;
      if (/^\d{3} /.test(line)) throw new Error(`${code} was expected, and came: ${reply}`);
    }
    if (!reply.includes(`${code} `)) throw new Error(`${code} was expected, and the connection ended behind: ${reply}`);
    return reply;
  }

  command(line: string, code: number): Promise<string> {
    this.say(line);
    return this.expect(code);
  }

  /** @returns the port at which a data connection is waited for */
  async announce(): Promise<number> {
    const reply = await this.command("EPSV", 229);
    return Number(/\(\|\|\|(\d+)\|\)/.exec(reply)?.[1]);
  }

  async connect(port: number): Promise<Socket> {
    const { socket } = await this.dialer.connect({ port, ...(this.options.ipv6 ? { ipv6: true } : {}) });
    return socket.on("error", () => {}); // whoever reads it gets to know
  }

  async open(): Promise<Socket> {
    return this.connect(await this.announce());
  }

  close(): void {
    this.socket.destroy();
  }
}

/** Reads a data connection, in as many goes as a test likes. */
export class DataReader {
  private readonly hash: Hash = createHash("sha256");
  private readonly chunks: AsyncIterator<Buffer>;
  bytes = 0;

  constructor(socket: Socket) {
    this.chunks = socket.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
  }

  /** Resolves when so many bytes have come, or all. */
  async reach(bytes: number): Promise<void> {
    while (this.bytes < bytes) {
      const { value, done } = await this.chunks.next();
      if (done) return;
      this.bytes += value.length;
      this.hash.update(value);
    }
  }

  /** @returns the SHA-256 of all that has come until the end */
  async end(): Promise<string> {
    await this.reach(Number.POSITIVE_INFINITY);
    return this.hash.digest("hex");
  }
}

/** Writes bytes as fast as they are taken. */
export async function writeAll(socket: Socket, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += 65_536) {
    if (!socket.write(bytes.subarray(at, at + 65_536))) await once(socket, "drain");
  }
}
