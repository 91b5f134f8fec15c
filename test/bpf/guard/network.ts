import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, rmdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { GuardOptions } from "../../../agent/guard/index.js";
import { Guard } from "../../../agent/guard/index.js";

export const SERVER_NAMESPACE = "bt-guard-s";
export const CLIENT_NAMESPACE = "bt-guard-c";
export const PINS = "/sys/fs/bpf/baton-test-guard/s";
export const CGROUP = "/sys/fs/cgroup/unified/baton-test-guard";
export const VIP = "10.78.0.100";
export const VIP6 = "fd78::100";
export const CLIENT = "10.78.0.10";
export const CLIENT6 = "fd78::10";
export const SERVER_MAC = "02:00:00:78:00:02";
export const CLIENT_MAC = "02:00:00:78:00:01";

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "inherit"] });
}

export function inNamespace(namespace: string, ...command: string[]): string {
  return execFileSync("nsenter", [`--net=/run/netns/${namespace}`, "--", ...command], { encoding: "utf8" });
}

/**
 *   bt-guard-c                       bt-guard-s
 *   eth0 10.78.0.10  ───── veth ───── eth0, VIP 10.78.0.100 on lo, the guard
 *
 * No appliance in between: the client sends straight to the server's MAC.
 */
export function makeNetwork(): void {
  removeNetwork();
  for (const name of [CLIENT_NAMESPACE, SERVER_NAMESPACE]) ip("netns", "add", name);
  ip(
    ...["link", "add", "eth0", "address", CLIENT_MAC, "netns", CLIENT_NAMESPACE, "type", "veth"],
    ...["peer", "name", "eth0", "address", SERVER_MAC, "netns", SERVER_NAMESPACE],
  );
  for (const [name, host] of [
    [CLIENT_NAMESPACE, "10"],
    [SERVER_NAMESPACE, "101"],
  ] as const) {
    ip("-n", name, "addr", "add", `10.78.0.${host}/24`, "dev", "eth0");
    ip("-n", name, "addr", "add", `fd78::${host}/64`, "dev", "eth0", "nodad");
    ip("-n", name, "link", "set", "lo", "up");
    ip("-n", name, "link", "set", "eth0", "up");
  }
  ip("-n", SERVER_NAMESPACE, "addr", "add", `${VIP}/32`, "dev", "lo");
  ip("-n", SERVER_NAMESPACE, "addr", "add", `${VIP6}/128`, "dev", "lo", "nodad");
  ip("-n", CLIENT_NAMESPACE, "neigh", "add", VIP, "lladdr", SERVER_MAC, "dev", "eth0");
  ip("-n", CLIENT_NAMESPACE, "neigh", "add", VIP6, "lladdr", SERVER_MAC, "dev", "eth0");
  ip("-n", CLIENT_NAMESPACE, "route", "add", VIP, "dev", "eth0");
  ip("-n", CLIENT_NAMESPACE, "route", "add", VIP6, "dev", "eth0");
  inNamespace(CLIENT_NAMESPACE, "ethtool", "-K", "eth0", "gro", "on"); // NAPI: without it redirected frames are lost
  for (const setting of ["net.ipv4.tcp_dsack=0", "net.ipv4.tcp_ecn=0"]) {
    inNamespace(SERVER_NAMESPACE, "sysctl", "-qw", setting);
  }
  mkdirSync(CGROUP, { recursive: true });
}

export function removeNetwork(): void {
  Guard.unload(PINS);
  for (const name of [CLIENT_NAMESPACE, SERVER_NAMESPACE]) {
    if (existsSync(`/run/netns/${name}`)) ip("netns", "del", name);
  }
  if (existsSync(CGROUP)) rmdirSync(CGROUP);
}

/** Loads the guard in the server's namespace, in a process of its own, and opens it from here by its pins. */
export function loadGuard(options: Partial<GuardOptions> = {}): Guard {
  const whole: GuardOptions = {
    interface: "eth0",
    pins: PINS,
    cgroup: CGROUP,
    vips: [VIP, VIP6],
    services: [{ port: 80 }],
    flows: 64,
    ...options,
  };
  inNamespace(SERVER_NAMESPACE, process.execPath, fileURLToPath(import.meta.url), JSON.stringify(whole));
  return Guard.open(PINS);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) Guard.load(JSON.parse(process.argv[2]!)).close();
