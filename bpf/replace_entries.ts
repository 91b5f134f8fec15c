import type { BpfMap } from "./binding/index.js";

/** Exactly these are in the map from now on. New ones first: at no moment is a key missing that was there and stays. */
export function replaceEntries(map: BpfMap, entries: Array<readonly [key: Buffer, value: Buffer]>): void {
  const wanted = new Set<string>();
  for (const [key, value] of entries) {
    map.update(key, value);
    wanted.add(key.toString("latin1"));
  }
  for (const [key] of map.entries()) if (!wanted.has(key.toString("latin1"))) map.delete(key);
}
