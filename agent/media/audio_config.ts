import { MediaError } from "./error.js";

const RATES = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
const RATE_FOLLOWS = 15;
const TYPE_FOLLOWS = 31;
/** By channelConfiguration; 0: said elsewhere. */
const CHANNELS = [0, 1, 2, 3, 4, 5, 6, 8];

export interface AudioConfig {
  /** Hz, of the coded core: where SBR doubles it, that is not counted. */
  sampleRate: number;
  /** undefined: the config leaves it to the stream. */
  channels: number | undefined;
}

/** The head of an AudioSpecificConfig (ISO/IEC 14496-3 section 1.6.2.1). Throws MediaError where it is none. */
export function parseAudioConfig(bytes: Buffer): AudioConfig {
  let position = 0;
  const bits = (count: number): number => {
    let value = 0;
    for (let i = 0; i < count; i++, position++) {
      const byte = bytes[position >> 3];
      if (byte === undefined) throw new MediaError("malformed", "the configuration of its sound is incomplete");
      value = value * 2 + ((byte >> (7 - (position & 7))) & 1);
    }
    return value;
  };
  if (bits(5) === TYPE_FOLLOWS) bits(6);
  const index = bits(4);
  const sampleRate = index === RATE_FOLLOWS ? bits(24) : RATES[index];
  if (!sampleRate) throw new MediaError("malformed", "its sound has no sampling rate");
  return { sampleRate, channels: CHANNELS[bits(4)] || undefined };
}
