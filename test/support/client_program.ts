import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closeWithTest } from "./cleanup.js";
import { spawnOn } from "./host.js";

/** A client's program under way, in the client's namespace, with a folder of its own. Both end with the test. */
export class ClientProgram {
  readonly folder = mkdtempSync(join(tmpdir(), "baton-client-"));
  readonly done: Promise<{ exit: number; output: string }>;
  #over = false;
  readonly #child: ChildProcess;

  constructor(command: (folder: string) => string[]) {
    this.#child = spawnOn("client", command(this.folder), { stdio: ["ignore", "pipe", "pipe"], cwd: this.folder });
    let output = "";
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text;
      });
    }
    this.done = new Promise((resolve) =>
      this.#child.once("close", (code) => {
        this.#over = true;
        resolve({ exit: code ?? -1, output });
      }),
    );
    closeWithTest({
      close: () => {
        this.#child.kill("SIGKILL");
        rmSync(this.folder, { recursive: true, force: true });
      },
    });
  }

  get isOver(): boolean {
    return this.#over;
  }
}
