import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";

/** Reads whole files, and is to be in nobody's way. */
const HASHING = "baton-hash";
/** A dead worker's successor: others are taking its connections over at this moment, and soon will have. */
export const NICENESS_STARTING = 5;

/**
 * Niceness of a process with all its threads, and of its session among others: with autogroups (sched(7)) a session's processes compete as one,
 * and their own niceness counts among themselves only.
 * @returns whether it was permitted.
 */
export function setNiceness(nice: number, ofSession: number, pid = process.pid): boolean {
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) setThread(pid, Number(thread), nice);
    writeFileSync(`/proc/${pid}/autogroup`, String(ofSession));
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT"; // a kernel without autogroups, or it is gone
  }
}

/** Linux has a niceness for each thread (setpriority(2)), and those that read files for Node have that of its start. */
function setThread(pid: number, thread: number, nice: number): void {
  try {
    if (!readFileSync(`/proc/${pid}/task/${thread}/comm`, "utf8").startsWith(HASHING)) setPriority(thread, nice);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ESRCH") throw error; // else it has ended meanwhile
  }
}
