import { existsSync, renameSync, rmdirSync, unlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import type { BpfProgram } from "./binding/api.js";

/** Pins a program in the place of an earlier one; there is no moment without. */
export function replacePin(program: BpfProgram, path: string): void {
  const next = `${path}_next`; // bpffs takes no dots in names
  removePin(next);
  program.pin(next);
  renameSync(next, path);
}

/** Removes these pins and then the folders that are empty, up to bpffs itself. Nothing there is no error. */
export function removePins(folder: string, names: readonly string[]): void {
  for (const name of names) {
    removePin(join(folder, name));
    removePin(join(folder, `${name}_next`));
  }
  for (let empty = folder; empty.startsWith("/sys/fs/bpf/") && existsSync(empty); empty = dirname(empty)) {
    try {
      rmdirSync(empty);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOTEMPTY") return;
      throw error;
    }
  }
}

function removePin(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
