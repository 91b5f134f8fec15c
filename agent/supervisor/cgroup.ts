import { readFileSync } from "node:fs";
import { join } from "node:path";
import { BatonError } from "../../proto/errors.js";

/** Mount point of cgroup version 2. @throws BatonError KERNEL_UNSUPPORTED */
function mountPoint(): string {
  for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n")) {
    const [, folder, type] = line.split(" ");
    if (type === "cgroup2" && folder !== undefined) return folder;
  }
  throw new BatonError("KERNEL_UNSUPPORTED", "No cgroup2 is mounted; the guard needs one for its connections.");
}

/** The configured directory, or one of Baton's own: the guard hears of connections whose listener was made in it. */
export function cgroupOf(server: { id: string; cgroup?: string | undefined }): string {
  return server.cgroup ?? join(mountPoint(), `baton-${server.id}`);
}

/** Whether this process is in that group or below it. */
export function isInCgroup(path: string): boolean {
  const line = readFileSync("/proc/self/cgroup", "utf8")
    .split("\n")
    .find((text) => text.startsWith("0::"));
  const present = join(mountPoint(), line?.slice(3) ?? "/");
  return present === path || present.startsWith(`${path}/`);
}
