import { existsSync, mkdirSync, renameSync, rmdirSync, unlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import type { BpfProgram } from "../../bpf/binding/index.js";

/** What lies under a guard's folder in bpffs. A link keeps its program attached for as long as its pin is there. */
export const maps = [
  "flows",
  "lease",
  "vips",
  "services",
  "appliances",
  "way_back",
  "cookie_births",
  "guard_events",
  "guard_verdicts",
] as const;
export const programs = [
  "guard_ingress",
  "guard_egress",
  "guard_birth",
  "guard_silence",
  "guard_change",
  "guard_sweep",
  "guard_used",
] as const;

/** In the order in which they go: without ingress the stack answers strangers, but egress still holds its answers back. */
export const links = ["link_ingress", "link_birth", "link_silence", "link_egress"] as const;

export type MapName = (typeof maps)[number];
export type ProgramName = (typeof programs)[number];
export type LinkName = (typeof links)[number];

export function pinPath(pins: string, name: MapName | ProgramName | LinkName): string {
  return join(pins, name);
}

export function makeFolder(pins: string): void {
  mkdirSync(pins, { recursive: true });
}

/** Pins a program in the place of an earlier one; there is no moment without. */
export function pinProgram(program: BpfProgram, pins: string, name: ProgramName): void {
  const next = join(pins, `${name}_next`); // bpffs takes no dots in names
  rmPin(next);
  program.pin(next);
  renameSync(next, pinPath(pins, name));
}

/** Removes all of a guard's pins and then the folders that are empty, up to bpffs itself. Nothing there is no error. */
export function removePins(pins: string): void {
  for (const name of [...links, ...programs, ...maps]) {
    rmPin(pinPath(pins, name));
    rmPin(join(pins, `${name}_next`));
  }
  for (let folder = pins; folder.startsWith("/sys/fs/bpf/") && existsSync(folder); folder = dirname(folder)) {
    try {
      rmdirSync(folder);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOTEMPTY") return;
      throw error;
    }
  }
}

function rmPin(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
