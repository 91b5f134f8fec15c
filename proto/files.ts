import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Whoever reads the file finds the former text or the new one, whole, at any moment. */
export function writeAtomically(file: string, text: string): void {
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}

/** Says in `<state>/<name>.pid` who runs. */
export function writePidFile(state: string, name: string, pid: number): void {
  writeAtomically(join(state, `${name}.pid`), `${pid}\n`);
}
