import { pidOf, runOn } from "./host.js";

/** Faults, made from outside as an operator's bad day would. */

export function killAgent(server: string): number {
  return signal(pidOf(server, "agent"), "SIGKILL");
}

/** Stops worker and supervisor as a paused virtual host would. @returns what wakes them */
export function stopServer(server: string): () => void {
  const pids = [pidOf(server, "supervisor"), pidOf(server, "agent")];
  for (const pid of pids) signal(pid, "SIGSTOP");
  return () => {
    for (const pid of pids) signal(pid, "SIGCONT");
  };
}

/** Pulls the host's cable at the switch. */
export async function cutLink(host: string): Promise<void> {
  await runOn("sw", "ip", "link", "set", host, "down");
}

export async function mendLink(host: string): Promise<void> {
  await runOn("sw", "ip", "link", "set", host, "up");
}

export function signal(pid: number, name: NodeJS.Signals): number {
  process.kill(pid, name);
  return pid;
}
