import { randomInt } from "node:crypto";
import { RefusedError } from "../../proto/errors.js";
import type { BundlePort, Relation } from "./application.js";

/**
 * Tries places one after the other, from a random one on, until their flows can be related: those of one client have each place once.
 * @param places how many there are; at most `tries` are tried
 * @param at the flows of one of them; undefined: not to be tried
 * @returns which; undefined where none of them can be had. Throws what BundlePort.relate does, but for "taken"
 */
export async function relateFree(
  bundle: Pick<BundlePort, "relate">,
  places: number,
  tries: number,
  at: (place: number) => Relation[] | undefined,
): Promise<number | undefined> {
  const first = randomInt(Math.max(1, places));
  for (let tried = 0; tried < Math.min(tries, places); tried++) {
    const place = (first + tried) % places;
    const relations = at(place);
    if (!relations) continue;
    try {
      await bundle.relate(relations);
      return place;
    } catch (error) {
      if (!(error instanceof RefusedError) || error.reason !== "taken") throw error;
    }
  }
  return undefined;
}
