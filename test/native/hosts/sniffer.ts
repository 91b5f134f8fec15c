import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { HostName, Network } from "./network.js";

export interface Seen {
  flags: string;
  seq: number;
  ack: number;
  tsval: number;
  tsecr: number;
  length: number;
}

/** What arrives at a host's eth0 from the client. */
export class Sniffer {
  readonly seen: Seen[] = [];
  readonly #child;
  #wake = () => {};

  private constructor(network: Network, host: HostName) {
    const [nsenter, net] = network.enter(host);
    this.#child = spawn(nsenter, [
      net,
      "tcpdump",
      "-i",
      "eth0",
      "-Q",
      "in",
      "-n",
      "-S",
      "-l",
      "--immediate-mode",
      "tcp dst port 80 or (ip6 and dst port 80)",
    ]);
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      const number = (pattern: RegExp) => Number(pattern.exec(line)?.[1] ?? -1);
      this.seen.push({
        flags: /Flags \[(.*?)\]/.exec(line)?.[1] ?? "",
        seq: number(/seq (\d+)/),
        ack: number(/ack (\d+)/),
        tsval: number(/TS val (\d+)/),
        tsecr: number(/ecr (\d+)/),
        length: number(/length (\d+)/),
      });
      this.#wake();
    });
  }

  static async start(network: Network, host: HostName): Promise<Sniffer> {
    const sniffer = new Sniffer(network, host);
    await new Promise<void>((resolve) => {
      sniffer.#child.stderr.on("data", (text) => {
        if (String(text).includes("listening on")) resolve();
      });
    });
    return sniffer;
  }

  /** The next segment that is not looked at yet. */
  async next(timeoutMs = 2000): Promise<Seen> {
    const deadline = Date.now() + timeoutMs;
    while (this.seen.length === 0) {
      if (Date.now() > deadline) throw new Error(`no segment within ${timeoutMs} ms`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, 50);
      });
    }
    return this.seen.shift()!;
  }

  stop(): void {
    this.#child.kill();
  }
}
