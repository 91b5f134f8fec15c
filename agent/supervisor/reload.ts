import { spawn } from "node:child_process";
import { type Config, reloadConfig, requireContent } from "../../proto/config/index.js";
import { BatonError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import type { Command } from "./commands.js";

const log = logger("supervisor");
const UNCHANGED = "the new configuration is not taken over: this agent goes on as before";

/** A child as far as it matters here. */
export interface SuccessorProcess {
  kill(signal: NodeJS.Signals): unknown;
  once(event: "exit", listener: (code: number | null, signal: string | null) => void): unknown;
  once(event: "error", listener: (error: Error) => void): unknown;
}

/**
 * SIGHUP: an agent under the file as it is by now takes this one's place, with its live connections. Nothing is begun with a file that
 * is not right, and whatever goes wrong later leaves this agent as it is.
 */
export class Reload {
  private successor: SuccessorProcess | undefined;
  private again = false;

  constructor(
    private readonly running: Config,
    private readonly id: string,
    private readonly start: () => SuccessorProcess,
  ) {}

  request(): void {
    if (this.successor) {
      this.again = true; // the file may have changed since that one has read it
      return;
    }
    try {
      requireContent(reloadConfig(this.running), this.id);
    } catch (error) {
      if (!(error instanceof BatonError)) throw error;
      log.error({ reason: error.message }, UNCHANGED);
      return;
    }
    log.info({ file: this.running.file }, "an agent with the new configuration is started");
    const successor = this.start();
    this.successor = successor;
    let isOver = false;
    const over = (reason: string) => {
      if (isOver) return;
      isOver = true;
      this.successor = undefined;
      log.error({ reason }, UNCHANGED);
      const again = this.again;
      this.again = false;
      if (again) this.request();
    };
    successor.once("error", (error) => over(`it cannot be started: ${error.message}`));
    successor.once("exit", (code, signal) => over(`its process ended (${signal ?? `exit status ${code}`})`));
  }

  /** Another agent has this one's place: what was asked of this one meanwhile is for that one to do. */
  replaced(): void {
    if (this.again) this.successor?.kill("SIGHUP");
  }
}

/** In a session of its own, so that it outlives this one, and not waited for. */
export function startSuccessor({ command, arguments: words }: Command): SuccessorProcess {
  const child = spawn(command, words, { stdio: ["ignore", "inherit", "inherit"], detached: true });
  child.unref();
  return child;
}
