import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { root } from "../../proto/paths.js";

export interface AvaOptions {
  /** Files or patterns of compiled tests. */
  tests: string[];
  /** Without any news for so long, the file that runs is ended. */
  quietMinutes: number;
  /** Whether files may run side by side, in one network with everything else. */
  parallel: boolean;
  /** Whether they run in a world of their own: test/lab/apart. */
  apart: boolean;
  /** Ends it, together with the tests' processes. */
  signal: AbortSignal;
  /** Called with each line that it says. */
  say: (line: string) => void;
}

/** Runs ava to its end. @returns its exit status; null where a signal ended it */
export async function runAva({
  tests,
  quietMinutes,
  parallel,
  apart,
  signal,
  say,
}: AvaOptions): Promise<number | null> {
  const command = [
    process.execPath,
    join(root, "node_modules/ava/entrypoints/cli.mjs"),
    "--tap",
    `--timeout=${quietMinutes}m`,
    ...(parallel ? [] : ["--concurrency=1", "--serial"]),
    ...tests,
  ];
  // The world goes with whoever asked for it, also where that is killed.
  const keeper = ["setpriv", "--pdeathsig=TERM", "--", join(root, "test/lab/apart")];
  const [program, ...words] = apart ? [...keeper, ...command] : command;
  // In a process group of its own, so that ava ends together with the tests' processes; a world has better means.
  const ava = spawn(program!, words, {
    cwd: root,
    stdio: ["ignore", "pipe", apart ? "pipe" : "inherit"],
    detached: true,
    env: { ...process.env, FORCE_COLOR: "0" },
  });
  const stop = () => void (apart ? ava.kill("SIGTERM") : process.kill(-ava.pid!, "SIGKILL"));
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  const ended = new Promise<number | null>((resolve, reject) => {
    ava.once("close", resolve);
    ava.once("error", reject);
  });
  for (const stream of [ava.stdout, ava.stderr]) if (stream) createInterface({ input: stream }).on("line", say);
  return ended.finally(() => signal.removeEventListener("abort", stop));
}
