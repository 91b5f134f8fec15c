import { spawn } from "node:child_process";
import { type Closeable, closeWithTest } from "./cleanup.js";
import { cgroupMount, pidOf, runOn } from "./host.js";

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

/** A busy loop among a host's own processes: what it burns counts as the host's. Ends with the test, or by close(). */
export function burn(host: string): Closeable {
  const script = `echo $$ >${cgroupMount()}/baton/${host}/cgroup.procs && while :; do :; done`;
  const child = spawn("bash", ["-c", script], { stdio: "ignore", detached: true });
  const burner = { close: () => void child.kill("SIGKILL") };
  closeWithTest(burner);
  return burner;
}

/**
 * Limits what the switch sends to the client, smoothly (curl's own --limit-rate works in bursts with long pauses). The
 * queue is long enough that nothing is dropped while a sender with a sane congestion control fills the cable.
 */
export async function limitClientCable(megabits: number): Promise<void> {
  const rate = ["rate", `${megabits}mbit`, "burst", "256k", "limit", "16m"];
  await runOn("sw", "tc", "qdisc", "replace", "dev", "client", "root", "tbf", ...rate);
}
