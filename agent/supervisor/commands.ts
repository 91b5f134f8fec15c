import { join } from "node:path";
import type { Config } from "../../proto/config/index.js";
import { root } from "../../proto/paths.js";

export interface Command {
  command: string;
  arguments: string[];
  /** What it reads on its standard input; missing: nothing. */
  input?: string;
}

const main = join(root, "dist", "controller", "cli", "main.js");

/**
 * All code is compiled at the start, and kept: what a takeover needs has mostly never run before, or not for long, and to compile it then would
 * take as long as all the rest. A start takes a quarter longer for it, and the process some 8 MB more.
 */
const COMPILED = ["--no-lazy", "--no-flush-bytecode"];

/** The process that holds the sockets. */
export function workerCommand(config: Config, id: string, realtime: boolean): Command {
  const words = [process.execPath, ...COMPILED, "--max-semi-space-size=4", main, "worker", ...whose(config, id)];
  return { ...ordinary(words, realtime), input: config.text };
}

/** The agent that takes this one's place. */
export function successorCommand(config: Config, id: string, realtime: boolean): Command {
  return ordinary([process.execPath, main, "agent", "--replace", ...whose(config, id)], realtime);
}

function whose(config: Config, id: string): string[] {
  return ["--config", config.file, "--id", id];
}

/** Children inherit the policy, and a worker that moves bulk data at it would starve its own store. chrt(1) execs. */
function ordinary(words: string[], realtime: boolean): Command {
  const [command = "", ...rest] = realtime ? ["chrt", "--other", "0", ...words] : words;
  return { command, arguments: rest };
}
