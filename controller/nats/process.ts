import { accessSync, constants, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";

/** A process that is told apart from a later one with the same number by the instant at which it started. */
export interface ProcessIdentity {
  pid: number;
  /** Clock ticks since boot: field 22 of /proc/PID/stat. */
  startedAt: string;
}

/** The living process `pid`; undefined when there is none, or only a zombie of it (proc_pid_stat(5)). */
export function identify(pid: number): ProcessIdentity | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may contain anything; the fields begin behind the last one.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state, startedAt] = [fields[0], fields[19]];
    if (startedAt === undefined || state === "Z" || state === "X") return undefined;
    return { pid, startedAt };
  } catch {
    return undefined;
  }
}

export function isAlive(process: ProcessIdentity): boolean {
  return identify(process.pid)?.startedAt === process.startedAt;
}

/** The process named by a pid file, if it lives and is `program` running with `argument`. */
export function fromPidFile(file: string, program: string, argument: string): ProcessIdentity | undefined {
  try {
    const pid = Number(readFileSync(file, "utf8").trim());
    if (!Number.isSafeInteger(pid) || pid <= 1) return undefined;
    const found = identify(pid);
    const comm = readFileSync(`/proc/${pid}/comm`, "utf8").trim();
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return comm === program && command.includes(argument) ? found : undefined;
  } catch {
    return undefined; // no file, or the process went away meanwhile
  }
}

/** Path of an executable, looked for as execvp(3) does; undefined where there is none. */
export function findProgram(name: string): string | undefined {
  const directories = (process.env.PATH ?? "").split(delimiter).filter((directory) => directory !== "");
  const candidates = name.includes("/") ? [name] : directories.map((directory) => join(directory, name));
  return candidates.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
