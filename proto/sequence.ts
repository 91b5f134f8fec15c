/**
 * Arithmetic on TCP sequence numbers, the only place where 64-bit stream offsets meet 32-bit numbers (RFC 9293 section 3.4).
 *
 *      ISN        ISN+1 .................. seq
 *      SYN        offset 0                 offset = distance from ISN+1, unwrapped near a known offset
 */

const MODULUS = 2 ** 32;

/** An unsigned 32-bit sequence number. */
export type Sequence = number;
/** A position in one direction's stream; 0 is the first byte behind the SYN. Exact up to 2^53. */
export type Offset = number;

/** `a + delta` modulo 2^32; delta is any safe integer, also negative. */
export function add(a: Sequence, delta: number): Sequence {
  return (((a + (delta % MODULUS)) % MODULUS) + MODULUS) % MODULUS;
}

/** Signed distance from `from` to `to`, in [-2^31, 2^31). */
export function distance(from: Sequence, to: Sequence): number {
  return (to - from) | 0;
}

/** Whether `a` comes before `b` (half the number space apart at most). */
export function before(a: Sequence, b: Sequence): boolean {
  return distance(a, b) > 0;
}

/** The sequence number of the byte at `offset`. */
export function toSequence(isn: Sequence, offset: Offset): Sequence {
  return add(isn, 1 + offset);
}

/** The stream offset of `sequence` that lies nearest to `near` (within 2^31); may be negative below the stream's start. */
export function toOffset(isn: Sequence, sequence: Sequence, near: Offset): Offset {
  return near + distance(toSequence(isn, near), sequence);
}
