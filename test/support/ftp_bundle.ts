import { once } from "node:events";
import type { Socket } from "node:net";
import type { Dialer } from "./dialer.js";
import { FtpSession } from "./ftp_session.js";

/** Written, or read, at a time. */
const CHUNK = 8_192;

/** A session with a transfer that goes on and on, a little at a time. */
export class FtpBundle {
  /** NOOPs that are not answered yet. */
  private unanswered = 0;
  /** Bytes of the transfer. */
  private bytes = 0;

  private constructor(
    readonly session: FtpSession,
    private readonly data: Socket,
    private readonly isUpload: boolean,
    /** Of the client: of all its connections. */
    readonly ports: ReadonlySet<number>,
  ) {}

  static async upload(dialer: Dialer, name: string, ipv6: boolean): Promise<FtpBundle> {
    return FtpBundle.open(dialer, `STOR ${name}`, ipv6, true);
  }

  static async download(dialer: Dialer, name: string, ipv6: boolean): Promise<FtpBundle> {
    return FtpBundle.open(dialer, `RETR ${name}`, ipv6, false);
  }

  private static async open(dialer: Dialer, command: string, ipv6: boolean, isUpload: boolean): Promise<FtpBundle> {
    const user = isUpload ? { user: "lab", password: "lab" } : {};
    const session = await FtpSession.open(dialer, { ...user, ipv6 });
    const data = await session.open();
    await session.command(command, 150);
    return new FtpBundle(session, data, isUpload, new Set([session.port, data.localPort as number]));
  }

  /** Some more of the transfer: it has the server acknowledge it, or send more. */
  goOn(): void {
    if (!this.isUpload) {
      this.bytes += (this.data.read(CHUNK) as Buffer | null)?.length ?? 0;
    } else if (!this.data.writableNeedDrain) {
      this.data.write(Buffer.alloc(CHUNK, this.bytes / CHUNK));
      this.bytes += CHUNK;
    }
  }

  /** Says something that is answered during a transfer. */
  say(): void {
    this.session.say("NOOP");
    this.unanswered++;
  }

  /** Resolves when everything that was said is answered, and one thing more. */
  async answered(): Promise<void> {
    this.say();
    for (; this.unanswered > 0; this.unanswered--) await this.session.expect(200);
  }

  /** Ends an upload. @returns what was stored, as its client knows it */
  async finish(): Promise<Buffer> {
    this.data.end();
    await once(this.data, "finish");
    await this.session.expect(226);
    return Buffer.concat(Array.from({ length: this.bytes / CHUNK }, (_, at) => Buffer.alloc(CHUNK, at)));
  }

  /** @returns how much of a download was read */
  get read(): number {
    return this.bytes;
  }
}
