import { MediaError } from "./error.js";

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

/** The NAL units of a sample; empty ones are left out. Throws MediaError. */
export function unitsOf(sample: Buffer, lengthSize: number): Unit[] {
  const units: Unit[] = [];
  for (let position = 0; position < sample.length; ) {
    const offset = position + lengthSize;
    if (offset > sample.length) throw new MediaError("malformed", "a sample ends within a NAL unit's length");
    const length = sample.readUIntBE(position, lengthSize);
    if (length > sample.length - offset) throw new MediaError("malformed", "a NAL unit is longer than its sample");
    if (length > 0) {
      const header = sample.readUInt8(offset);
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
