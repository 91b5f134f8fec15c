import { createHash } from "node:crypto";
import { closeWithTest } from "./cleanup.js";
import { spawnOn, VIP, VIP6 } from "./host.js";
import { Pace } from "./pace.js";
import { freshPort } from "./ports.js";

export interface DownloadOptions {
  ipv6?: boolean;
  /** Of the service; 80 if left out. */
  servicePort?: number;
  /** "20M" is 20 MiB a second. Smooth, unlike curl's own limit, which works in bursts of megabytes with long pauses. */
  rate?: string;
  /** More of curl's arguments. */
  curl?: string[];
  /** Seconds after which curl gives up. */
  seconds?: number;
}

export interface DownloadResult {
  /** curl's exit code; 0 is a whole body. */
  exit: number;
  error: string;
  status: number;
  bytes: number;
  sha256: string;
  /** TCP connections that curl opened. */
  connects: number;
  /** Longest time without a byte, from the first to the last one. */
  longestGapMs: number;
  firstByteMs: number;
  seconds: number;
}

/** A download by a stock curl in the client's namespace, hashed as it comes. */
export class Download {
  /** The client's port: who this is in `connections` and in a capture. */
  readonly port = freshPort();
  readonly done: Promise<DownloadResult>;
  #bytes = 0;
  #waiting: Array<{ bytes: number; resolve: () => void; reject: (error: Error) => void }> = [];
  readonly #child;
  readonly #pace: Pace | undefined;

  constructor(path: string, options: DownloadOptions = {}) {
    const url = `http://${options.ipv6 ? `[${VIP6}]` : VIP}:${options.servicePort ?? 80}${path}`;
    this.#child = spawnOn(
      "client",
      [
        "curl",
        "-sS",
        "--path-as-is",
        "--no-buffer",
        "--local-port",
        String(this.port),
        "--max-time",
        String(options.seconds ?? 120),
        ...(options.curl ?? []),
        "-o",
        "-",
        "-w",
        "%{stderr}\n%{json}",
        url,
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    this.#pace = options.rate ? new Pace(options.rate) : undefined;
    this.done = this.#read();
    closeWithTest({ close: () => this.abort() });
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Resolves when that many bytes of the body have come; rejects if it ends before. */
  reached(bytes: number): Promise<void> {
    if (this.#bytes >= bytes) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiting.push({ bytes, resolve, reject }));
  }

  /** The client reads nothing more, its kernel goes on; `goOn` ends it. */
  pause(): void {
    this.#child.kill("SIGSTOP");
  }

  goOn(): void {
    this.#child.kill("SIGCONT");
  }

  /** What is left comes as fast as it can. */
  finish(): Promise<DownloadResult> {
    this.#pace?.lift();
    return this.done;
  }

  abort(): void {
    this.#child.kill("SIGKILL");
    this.#pace?.lift();
  }

  async #read(): Promise<DownloadResult> {
    const hash = createHash("sha256");
    let last = 0;
    let longestGapMs = 0;
    let stderr = "";
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    const exited = new Promise<number>((resolve) => this.#child.once("close", (code) => resolve(code ?? -1)));
    for await (const chunk of this.#child.stdout! as AsyncIterable<Buffer>) {
      const now = performance.now();
      if (last > 0) longestGapMs = Math.max(longestGapMs, now - last);
      hash.update(chunk);
      this.#bytes += chunk.length;
      if (this.#waiting.length > 0) this.#wake();
      await this.#pace?.taken(chunk.length);
      last = performance.now();
    }
    const exit = await exited;
    for (const { bytes, reject } of this.#waiting) {
      reject(new Error(`the download ended after ${this.#bytes} bytes, ${bytes} were waited for: ${stderr.trim()}`));
    }
    const cut = stderr.lastIndexOf("\n");
    const said = cut < 0 || exit === -1 ? {} : (JSON.parse(stderr.slice(cut + 1)) as Record<string, number>);
    return {
      exit,
      error: stderr.slice(0, Math.max(cut, 0)).trim(),
      status: said.http_code ?? 0,
      bytes: this.#bytes,
      sha256: hash.digest("hex"),
      connects: said.num_connects ?? 0,
      longestGapMs,
      firstByteMs: (said.time_starttransfer ?? 0) * 1000,
      seconds: said.time_total ?? 0,
    };
  }

  #wake(): void {
    const due = this.#waiting.filter(({ bytes }) => bytes <= this.#bytes);
    this.#waiting = this.#waiting.filter(({ bytes }) => bytes > this.#bytes);
    for (const { resolve } of due) resolve();
  }
}
