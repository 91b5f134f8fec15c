import { once } from "node:events";
import { closeWithTest } from "./cleanup.js";
import { spawnOn } from "./host.js";

const SNAP = 128;
const READY_MS = 5000;

/** tcpdump on the client's interface: each frame that it sees, as far as `SNAP`. */
export class Frames {
  readonly #seen;
  readonly #child;
  readonly #ended: Promise<void>;
  #rest: Buffer = Buffer.alloc(0);
  #headerSeen = false;
  #stderr = "";

  private constructor(filter: string, seen: (frame: Buffer, timeUs: number) => void) {
    this.#seen = seen;
    this.#child = spawnOn(
      "client",
      [
        "tcpdump",
        "-i",
        "eth0",
        "-n",
        "-p",
        "-s",
        String(SNAP),
        "-B",
        "65536",
        "--immediate-mode",
        "-U",
        "-w",
        "-",
        filter,
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    this.#child.stdout!.on("data", (chunk: Buffer) => this.#take(chunk));
    this.#ended = once(this.#child, "close").then(() => {});
    closeWithTest(this);
  }

  /** @param filter pcap's language */
  static async start(filter: string, seen: (frame: Buffer, timeUs: number) => void): Promise<Frames> {
    const capture = new Frames(filter, seen);
    const deadline = Date.now() + READY_MS;
    while (!capture.#stderr.includes("listening on")) {
      if (Date.now() > deadline || capture.#child.exitCode !== null) {
        throw new Error(`tcpdump does not listen: ${capture.#stderr}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return capture;
  }

  close(): void {
    this.#child.kill("SIGKILL");
  }

  /** Resolves when every frame was seen; throws if the kernel dropped some of them. */
  async stop(): Promise<void> {
    this.#child.kill("SIGINT");
    await this.#ended;
    const dropped = /(\d+) packets? dropped by kernel/.exec(this.#stderr);
    if (dropped?.[1] !== "0") throw new Error(`the capture is incomplete: ${this.#stderr}`);
  }

  #take(chunk: Buffer): void {
    let data = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    if (!this.#headerSeen) {
      if (data.length < 24) {
        this.#rest = data;
        return;
      }
      if (data.readUInt32LE(0) !== 0xa1b2c3d4) throw new Error("tcpdump does not write little-endian pcap here");
      data = data.subarray(24);
      this.#headerSeen = true;
    }
    while (data.length >= 16) {
      const captured = data.readUInt32LE(8);
      if (data.length < 16 + captured) break;
      const timeUs = data.readUInt32LE(0) * 1e6 + data.readUInt32LE(4);
      this.#seen(data.subarray(16, 16 + captured), timeUs);
      data = data.subarray(16 + captured);
    }
    this.#rest = Buffer.from(data);
  }
}

/** Source MAC: with direct server return it names the server. */
export function senderOf(frame: Buffer): string {
  return frame.toString("hex", 6, 12).replace(/..(?=.)/g, "$&:");
}
