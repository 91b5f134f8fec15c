import { type ChildProcess, execFile, type SpawnOptions, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { COUNTERS, countersIn } from "./counters.js";

const run = promisify(execFile);

/** Names and addresses of the lab, as test/lab/lib.sh makes them. */
export const LAB = "/run/baton/lab";
export const VIP = "10.77.0.100";
export const VIP6 = "fd77::100";
export const CLIENT = "10.77.0.10";
export const CLIENT6 = "fd77::10";

/** The MAC address of a host's eth0; frames from a VIP carry that of the server that sent them. */
export function macOf(host: string): string {
  const number = host === "client" ? 10 : host.startsWith("lb") ? Number(host.slice(2)) : 100 + Number(host.slice(1));
  return `02:ba:70:00:00:${number.toString(16).padStart(2, "0")}`;
}

/** The host with this MAC address: what `macOf` made it from. */
export function hostOf(mac: string): string {
  const number = Number.parseInt(mac.slice(mac.lastIndexOf(":") + 1), 16);
  return number === 10 ? "client" : number > 100 ? `s${number - 100}` : `lb${number}`;
}

/** Starts a program inside a host's namespace. */
export function spawnOn(host: string, command: string[], options: SpawnOptions = {}): ChildProcess {
  return spawn("nsenter", [`--net=/run/netns/baton-${host}`, "--", ...command], options);
}

/** Runs a program inside a host's namespace to its end; throws if it fails. @returns its standard output */
export async function runOn(host: string, ...command: string[]): Promise<string> {
  const { stdout } = await run("nsenter", [`--net=/run/netns/baton-${host}`, "--", ...command], {
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout;
}

/** @param name agent, supervisor, controller, nats */
export function pidOf(host: string, name: string): number {
  const pid = Number(readFileSync(`${LAB}/${host}/${name}.pid`, "utf8").trim());
  if (!(pid > 0)) throw new Error(`${host}'s ${name}.pid names no process`); // a signal to 0 would be for ourselves
  return pid;
}

/** Whether a process lives; one that nobody has waited for yet does not. */
export function lives(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Where cgroup version 2 is mounted. */
export function cgroupMount(): string {
  const [, mount] = /^\S+ (\S+) cgroup2 /m.exec(readFileSync("/proc/self/mounts", "utf8")) ?? [];
  if (mount === undefined) throw new Error("no cgroup2 is mounted");
  return mount;
}

/** Linux' own counters of a host. */
export async function countersOf(host: string): Promise<Record<string, number>> {
  return countersIn(await runOn(host, "cat", ...COUNTERS));
}
