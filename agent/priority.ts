import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { getPriority, setPriority } from "node:os";

/**
 * Niceness of a process, and of its session among others: with autogroups (sched(7)) a session's processes compete as one, and their own niceness
 * counts among themselves only. Threads that have chosen another one than the process has keep it.
 * @returns whether it was permitted.
 */
export function setNiceness(nice: number, ofSession: number, pid = process.pid): boolean {
  try {
    // Linux has a niceness for each thread (setpriority(2)), and those that read files for Node have that of its start.
    const former = getPriority(pid);
    for (const thread of readdirSync(`/proc/${pid}/task`))
      change(`/proc/${pid}/task/${thread}`, Number(thread), former, nice);
    writeFileSync(`/proc/${pid}/autogroup`, String(ofSession));
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT"; // a kernel without autogroups, or it is gone
  }
}

function change(path: string, thread: number, former: number, nice: number): void {
  try {
    if (getPriority(thread) === former) setPriority(thread, nice);
  } catch (error) {
    if (existsSync(path)) throw error; // else it has ended meanwhile
  }
}
