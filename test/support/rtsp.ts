import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { closeWithTest } from "./cleanup.js";
import { eventually } from "./eventually.js";
import { spawnOn, VIP } from "./host.js";

const BUFFER_BYTES = 4 * 2 ** 20;

/** What a stock receiver makes of a film. */
export interface Received {
  exit: number | null;
  error: string;
  /** Hashes of the decoded pictures, and of the sound as it was sent, in their order. */
  pictures: string[];
  sound: string[];
}

/** A film that is played by ffmpeg in the client's namespace. */
export class Receiver {
  readonly done: Promise<Received>;
  readonly #child;

  /** @param base of the film's URL */
  constructor(directory: string, name: string, transport: "tcp" | "udp" | "udp_multicast", base = `rtsp://${VIP}`) {
    const prefix = join(directory, `${transport}-${Math.random().toString(36).slice(2)}`);
    // What it is slow to read on a busy machine waits: nothing is lost on the way but what servers lose.
    const buffer = transport === "tcp" ? [] : ["-buffer_size", String(BUFFER_BYTES)];
    const input = ["-v", "error", "-y", "-rtsp_transport", transport, ...buffer, "-i", `${base}/${name}`];
    const pictures = ["-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", `${prefix}.v`];
    const sound = ["-map", "0:a", "-c", "copy", "-f", "framemd5", `${prefix}.a`];
    this.#child = spawnOn("client", ["ffmpeg", ...input, ...pictures, ...sound], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, AV_LOG_FORCE_NOCOLOR: "1" },
    });
    closeWithTest(this);
    let error = "";
    this.#child.stderr?.on("data", (text: Buffer) => {
      error += text.toString();
    });
    this.done = new Promise((resolve) => {
      this.#child.once("close", (exit) => {
        resolve({ exit, error, pictures: hashesIn(`${prefix}.v`), sound: hashesIn(`${prefix}.a`) });
      });
    });
  }

  close(): void {
    this.#child.kill("SIGKILL");
  }
}

/** Hashes in ffmpeg's framemd5, without those of what goes along with a frame: when it was sent, for instance. */
export function hashesIn(file: string): string[] {
  if (!existsSync(file)) return []; // it has not got that far
  const lines = readFileSync(file, "utf8").split("\n");
  return lines.filter((line) => line !== "" && !line.startsWith("#")).map((line) => line.split(",")[5]!.trim());
}

export interface RtspAnswer {
  status: number;
  headers: Map<string, string>;
  body: string;
}

/** The client's side of an RTSP connection, which gets its media by the connection itself. */
export class RtspClient {
  /** By channel: packets in their order. */
  readonly packets = new Map<number, Buffer[]>();
  ended = false;
  #buffer = Buffer.alloc(0);
  readonly #answers: RtspAnswer[] = [];
  #cseq = 0;

  constructor(readonly socket: Pick<Socket, "write" | "on">) {
    socket.on("data", (chunk: Buffer) => this.received(chunk));
    socket.on("end", () => {
      this.ended = true;
    });
  }

  async ask(method: string, target: string, headers: Record<string, string> = {}): Promise<RtspAnswer> {
    const lines = Object.entries({ CSeq: String(++this.#cseq), ...headers }).map(
      ([name, value]) => `${name}: ${value}`,
    );
    return this.say(`${method} ${target} RTSP/1.0\r\n${lines.join("\r\n")}\r\n\r\n`);
  }

  /** Whatever it is. Resolves to what is answered. */
  say(request: string): Promise<RtspAnswer> {
    this.socket.write(request);
    return eventually(`an answer to ${request.slice(0, request.indexOf(" "))}`, () => this.#answers.shift());
  }

  received(chunk: Buffer): void {
    this.#buffer = Buffer.concat([this.#buffer, chunk]);
    while (this.#buffer.length > 0 && (this.#buffer[0] === 0x24 ? this.frame() : this.answer()));
  }

  /** Sequence numbers of RTP packets. */
  sequences(channel: number): number[] {
    return (this.packets.get(channel) ?? []).map((packet) => packet.readUInt16BE(2));
  }

  private frame(): boolean {
    if (this.#buffer.length < 4) return false;
    const end = 4 + this.#buffer.readUInt16BE(2);
    if (this.#buffer.length < end) return false;
    const channel = this.#buffer.readUInt8(1);
    this.packets.set(channel, [...(this.packets.get(channel) ?? []), this.#buffer.subarray(4, end)]);
    this.#buffer = this.#buffer.subarray(end);
    return true;
  }

  private answer(): boolean {
    const at = this.#buffer.indexOf("\r\n\r\n");
    if (at < 0) return false;
    const [first = "", ...lines] = this.#buffer.toString("latin1", 0, at).split("\r\n");
    const headers = new Map(lines.map((line) => line.split(/: (.*)/s, 2) as [string, string]));
    const end = at + 4 + Number(headers.get("Content-Length") ?? 0);
    if (this.#buffer.length < end) return false;
    const body = this.#buffer.toString("utf8", at + 4, end);
    this.#answers.push({ status: Number(first.split(" ")[1]), headers, body });
    this.#buffer = this.#buffer.subarray(end);
    return true;
  }
}

/** What answers the last challenge of a 401, which is MD5's, as clients of RFC 2069 do. */
export function authorization(
  challenged: RtspAnswer,
  { user, password, method, target }: { user: string; password: string; method: string; target: string },
): { Authorization: string } {
  const challenge = challenged.headers.get("WWW-Authenticate") ?? "";
  const [realm, nonce] = ["realm", "nonce"].map((name) => new RegExp(`${name}="([^"]*)"`).exec(challenge)?.[1] ?? "");
  const md5 = (...parts: unknown[]) => createHash("md5").update(parts.join(":")).digest("hex");
  const response = md5(md5(user, realm, password), nonce, md5(method, target));
  const fields = { username: user, realm, nonce, uri: target, response };
  const list = Object.entries(fields).map(([name, value]) => `${name}="${value}"`);
  return { Authorization: `Digest ${list.join(", ")}` };
}

/** Sequence numbers of RTP packets that come each once and in their order. */
export function isRun(sequences: number[]): boolean {
  return sequences.every((number, at) => number === (sequences[0]! + at) % 65_536);
}

/** RTCP's BYE is the last part of a source's last compound packet. */
export function saysGoodbye(packet: Buffer): boolean {
  for (let at = 0; at + 4 <= packet.length; at += 4 + 4 * packet.readUInt16BE(at + 2)) {
    if (packet[at + 1] === 203) return true;
  }
  return false;
}
