import { writeFileSync } from "node:fs";
import { setPriority } from "node:os";

/**
 * Niceness of this process, and of its session among others: with autogroups (sched(7)) a session's processes compete as one,
 * and their own niceness counts among themselves only.
 * @returns whether it was permitted.
 */
export function setNiceness(nice: number, ofSession: number): boolean {
  try {
    setPriority(nice);
    writeFileSync("/proc/self/autogroup", String(ofSession));
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT"; // a kernel without autogroups
  }
}
