import { MediaError } from "./error.js";
import { type Read, readExactly } from "./read.js";

/** A NAL unit of H.264 within a sample. */
export interface Unit {
  /** Of its header byte, from the sample's beginning. */
  offset: number;
  /** Bytes, its header included; at least 1. */
  length: number;
  /** Its first byte. */
  header: number;
}

/** Types of NAL units (ISO/IEC 14496-10 table 7-1). */
export const SEQUENCE_SET = 7;
export const DELIMITER = 9;
/** From here on RFC 6184 gives the types another meaning, as it does to 0. */
const FIRST_UNSENDABLE = 24;
/** Of one sample: a frame in slices of a macroblock row has some hundred. */
const UNITS_MAX = 4_096;

export function typeOf(header: number): number {
  return header & 0x1f;
}

/** The NAL units of a sample whose bytes are at hand; empty ones are left out. Throws MediaError. */
export function unitsOf(sample: Buffer, lengthSize: number): Unit[] {
  const walk = walkUnits(sample.length, lengthSize);
  let step = walk.next();
  while (!step.done) step = walk.next(sample.subarray(step.value.from, step.value.to));
  return step.value;
}

/**
 * The same from a file, of which only the lengths and the headers are read: some bytes a unit.
 * @param offset of the sample in the file
 * Throws MediaError; whatever `read` throws.
 */
export async function readUnits(read: Read, offset: number, size: number, lengthSize: number): Promise<Unit[]> {
  const walk = walkUnits(size, lengthSize);
  let step = walk.next();
  while (!step.done) {
    const { from, to } = step.value;
    step = walk.next(await readExactly(read, offset + from, to - from));
  }
  return step.value;
}

/** Asks for the bytes of the sample that it needs, a length and the byte behind it each time. */
function* walkUnits(size: number, lengthSize: number): Generator<{ from: number; to: number }, Unit[], Buffer> {
  const units: Unit[] = [];
  for (let position = 0; position < size; ) {
    if (position + lengthSize > size) throw new MediaError("malformed", "a sample ends within a NAL unit's length");
    const bytes = yield { from: position, to: Math.min(size, position + lengthSize + 1) };
    const length = bytes.readUIntBE(0, lengthSize);
    const offset = position + lengthSize;
    if (length > size - offset) throw new MediaError("malformed", "a NAL unit is longer than its sample");
    if (length > 0) {
      const header = bytes[lengthSize] as number;
      const type = typeOf(header);
      if (type === 0 || type >= FIRST_UNSENDABLE) {
        throw new MediaError("unsupported", `a NAL unit of type ${type} cannot be sent`);
      }
      if (units.length === UNITS_MAX) throw new MediaError("too large", `a sample has over ${UNITS_MAX} NAL units`);
      units.push({ offset, length, header });
    }
    position = offset + length;
  }
  return units;
}
