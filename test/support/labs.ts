import { readdirSync, statSync } from "node:fs";
import { availableParallelism, freemem } from "node:os";
import { join } from "node:path";
import { root } from "../../proto/paths.js";

const BYTES_EACH = 2 * 1024 ** 3;
/** Three servers, an appliance, a store and their clients: whatever they start takes two cores for a while, and what is tested has to be done in time. */
const CORES_EACH = 2;

/** How many labs run side by side: as many as have their cores and their memory, and one at least; or what is wanted. */
export function labsAtOnce(wanted = process.env.LABS, cores = availableParallelism(), freeBytes = freemem()): number {
  if (wanted) {
    if (!/^[1-9]\d?$/.test(wanted)) throw new Error(`LABS=${wanted}: a number from 1 to 99 is needed`);
    return Number(wanted);
  }
  return Math.max(1, Math.min(Math.floor(cores / CORES_EACH), Math.floor(freeBytes / BYTES_EACH)));
}

/** The compiled tests below a directory, the largest first: it has the most tests, and those that begin last are to be over soon. */
export function labFiles(directory: string): string[] {
  const bytesOf = (file: string) => statSync(join(root, file)).size;
  return readdirSync(join(root, directory), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.js"))
    .map((name) => join(directory, name))
    .toSorted((a, b) => bytesOf(b) - bytesOf(a));
}

/** What measures how busy a machine is needs one for itself: such tests are in a folder `alone`. */
export function isAlone(file: string): boolean {
  return file.split("/").includes("alone");
}
