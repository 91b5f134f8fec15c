import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { root } from "../../../proto/paths.js";
import { readFrame, type Seen } from "./packet.js";

type Answer = Record<string, unknown>;

export type SeenFrame = Seen & { timeNs: bigint; outgoing: boolean };

const living = new Set<Peer>();

/** Ends every peer, also one whose test failed on the way. */
export async function killPeers(): Promise<void> {
  await Promise.all([...living].map((peer) => peer.kill()));
}

/** A process of peer.py in a namespace. Commands are answered in order. */
export class Peer {
  readonly #child: ChildProcess;
  readonly #waiting: Array<(answer: Answer | undefined) => void> = [];

  constructor(namespace: string) {
    this.#child = spawn(
      "nsenter",
      [`--net=/run/netns/${namespace}`, "--", "python3", join(root, "test/bpf/guard/peer.py")],
      { stdio: ["pipe", "pipe", "inherit"] },
    );
    this.#child.stdin!.on("error", () => {}); // killed on purpose: its commands are answered below
    createInterface({ input: this.#child.stdout! }).on("line", (line) => this.#waiting.shift()?.(JSON.parse(line)));
    living.add(this);
    this.#child.once("exit", () => {
      living.delete(this);
      for (const answer of this.#waiting.splice(0)) answer(undefined);
    });
  }

  async do(name: string, ...args: Array<string | number>): Promise<Answer> {
    const answer = await new Promise<Answer | undefined>((resolve) => {
      this.#waiting.push(resolve);
      this.#child.stdin!.write(`${[name, ...args].join(" ")}\n`);
    });
    if (!answer) throw new Error(`${name}: the peer is gone`);
    if (answer.failed) throw new Error(String(answer.failed));
    return answer;
  }

  /** The TCP frames since the last call, oldest first; times are the kernel's, CLOCK_MONOTONIC. */
  async frames(): Promise<SeenFrame[]> {
    const { frames } = (await this.do("frames")) as { frames: Array<[number, boolean, string]> };
    return frames.flatMap(([timeNs, outgoing, hex]) => {
      const seen = readFrame(Buffer.from(hex, "hex"));
      return seen ? [{ ...seen, timeNs: BigInt(timeNs), outgoing }] : [];
    });
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGKILL"); // nsenter has become python3: this is the process itself
    await gone;
  }
}
