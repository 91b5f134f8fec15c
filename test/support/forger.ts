import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Segment } from "../../agent/native/api.js";
import { native } from "../../agent/native/index.js";
import { closeWithTest } from "./cleanup.js";

interface Request {
  number: number;
  segments: Segment[];
}

/** Sends TCP segments made by hand from the client's namespace, with any source address. */
export class Forger {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (sent: number) => void>();
  #number = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    closeWithTest(this);
    child.on("message", (answer: { number: number; sent: number }) => {
      this.#waiting.get(answer.number)?.(answer.sent);
      this.#waiting.delete(answer.number);
    });
  }

  static async start(): Promise<Forger> {
    const child = fork(fileURLToPath(import.meta.url), [], {
      execPath: "/usr/bin/nsenter",
      execArgv: ["--net=/run/netns/baton-client", "--", process.execPath],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      serialization: "advanced",
    });
    await once(child, "message");
    return new Forger(child);
  }

  /** @returns how many left */
  send(...segments: Segment[]): Promise<number> {
    const request: Request = { number: this.#number++, segments };
    return new Promise((resolve) => {
      this.#waiting.set(request.number, resolve);
      this.#child.send(request);
    });
  }

  close(): void {
    if (this.#child.connected) this.#child.disconnect();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.send) {
  process.on("message", ({ number, segments }: Request) => {
    const revived = segments.map((one) => (one.payload ? { ...one, payload: Buffer.from(one.payload) } : one));
    process.send!({ number, sent: native.sendSegments(revived) });
  });
  process.send({ ready: true });
}
