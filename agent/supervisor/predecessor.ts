import { readFileSync } from "node:fs";
import { join } from "node:path";
import { BatonError } from "../../proto/errors.js";

/** The process that `<state>/<name>.pid` names, if it lives and runs `baton <command> ... --id <id>`. */
export function fromPidFile(state: string, name: string, command: string, id: string): number | undefined {
  try {
    const pid = Number(readFileSync(join(state, `${name}.pid`), "utf8").trim());
    if (!Number.isSafeInteger(pid) || pid <= 1 || pid === process.pid) return undefined;
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    const named = words.includes(`--id=${id}`) || words[words.indexOf("--id") + 1] === id;
    return words.includes(command) && named ? pid : undefined;
  } catch {
    return undefined; // no file, or no such process (any more)
  }
}

/**
 * A supervisor that was killed leaves its worker behind: without a lease, hence silent, but it holds the listeners.
 * @throws BatonError PORT_TAKEN if the supervisor itself is still there
 */
export async function endPredecessor(state: string, id: string): Promise<void> {
  const supervisor = fromPidFile(state, "supervisor", "agent", id);
  if (supervisor !== undefined) {
    throw new BatonError("PORT_TAKEN", `An agent for ${id} runs already, as process ${supervisor}.`);
  }
  const deadline = performance.now() + 5_000;
  for (;;) {
    const worker = fromPidFile(state, "agent", "worker", id);
    if (worker === undefined) return;
    if (performance.now() > deadline) {
      throw new BatonError("PORT_TAKEN", `Process ${worker}, an earlier worker of ${id}, cannot be ended.`);
    }
    try {
      process.kill(worker, "SIGKILL");
    } catch {
      // it has just ended
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
