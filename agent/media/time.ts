export const MICROSECONDS = 1_000_000;

/**
 * A time in other units, rounded down. Exact on every machine for times below 2^53 and units up to 2^32 a second, at least one of
 * them at most 2^21: the whole seconds and the rest are converted apart, so that no product leaves the exact integers.
 */
export function rescale(time: number, from: number, to: number): number {
  const seconds = Math.floor(time / from);
  return seconds * to + Math.floor(((time - seconds * from) * to) / from);
}
