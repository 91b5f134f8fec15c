import type { ChildProcess } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../proto/paths.js";
import { eventually } from "./eventually.js";
import { LAB, lives, pidOf, spawnOn } from "./host.js";
import { labConfigFile } from "./lab.js";

/** `baton agent --replace` on a server of the lab, as its operator would start it: it is the server's agent from then on. */
export class Replacement {
  readonly pid: number;
  /** Its exit status and what it said to its operator, when it has ended. */
  readonly ended: Promise<{ code: number | null; stderr: string }>;
  readonly #old: number | undefined;

  constructor(readonly server: string) {
    this.#old = pidIn(server);
    const child = start(server);
    this.pid = child.pid!;
    let stderr = "";
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    this.ended = new Promise((resolve) => child.once("close", (code) => resolve({ code, stderr })));
    child.unref();
  }

  /** Resolves when the old agent has ended and the pid files name this one. */
  async done(): Promise<void> {
    await Promise.race([
      eventually(`${this.server}'s agent is replaced`, () => this.hasTakenPlace, 30_000),
      this.ended.then(({ code, stderr }) => {
        throw new Error(`the new agent of ${this.server} ended with ${code}: ${stderr}`);
      }),
    ]);
  }

  get hasTakenPlace(): boolean {
    return pidIn(this.server) === this.pid && (this.#old === undefined || !lives(this.#old));
  }
}

function pidIn(server: string): number | undefined {
  try {
    return pidOf(server, "supervisor");
  } catch {
    return undefined; // no agent
  }
}

function start(server: string): ChildProcess {
  const main = join(root, "dist/controller/cli/main.js");
  const log = openSync(`${LAB}/${server}/agent.log`, "a");
  try {
    const command = [process.execPath, main, "agent", "--replace", "--config", labConfigFile(), "--id", server];
    return spawnOn(server, command, { stdio: ["ignore", log, "pipe"], detached: true });
  } finally {
    closeSync(log);
  }
}
