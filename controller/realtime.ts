import { spawnSync } from "node:child_process";

/**
 * Below the supervisors' own. Leases are renewed through the store and deaths are found by the controller: on a machine whose
 * cores are all busy both must get their turn within milliseconds, and they use little.
 */
const PRIORITY = "5";

/** This process, all its threads and what it starts from now on. Without the privilege nothing changes. @returns whether it did */
export function becomeRealtime(): boolean {
  return spawnSync("chrt", ["--all-tasks", "--rr", "--pid", PRIORITY, String(process.pid)]).status === 0;
}

/** A command that runs at real-time priority where that is permitted; chrt(1) becomes the program, so the pid is its own. */
export function realtimeCommand(command: [string, ...string[]]): [string, ...string[]] {
  const permitted = spawnSync("chrt", ["--rr", PRIORITY, "true"]).status === 0;
  return permitted ? ["chrt", "--rr", PRIORITY, ...command] : command;
}
