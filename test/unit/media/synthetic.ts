import fc from "fast-check";
import { SampleTable } from "../../../agent/media/samples.js";
import type { AudioTrack, VideoTrack } from "../../../agent/media/track.js";
import { readerOf } from "./clip.js";

/** NAL units of each sample of a track that nobody encoded; 25 samples a second, each fifth one sync, presented two later. */
export function videoOf(samples: Buffer[][]): { track: VideoTrack; bytes: Buffer; read: ReturnType<typeof readerOf> } {
  const parts = samples.map((units) => Buffer.concat(units.flatMap((unit) => [lengthOf(unit), unit])));
  const bytes = Buffer.concat(parts);
  const track: VideoTrack = {
    kind: "h264",
    number: 1,
    timescale: 12_800,
    clockRate: 90_000,
    lengthSize: 4,
    sequenceSets: [Buffer.from([0x67, 66, 0, 30, 1, 2])],
    pictureSets: [Buffer.from([0x68, 9, 9])],
    samples: tableOf(parts, 512, 1024, (sample) => sample % 5 === 0),
  };
  return { track, bytes, read: readerOf(bytes) };
}

export function audioOf(parts: Buffer[]): { track: AudioTrack; bytes: Buffer; read: ReturnType<typeof readerOf> } {
  const bytes = Buffer.concat(parts);
  const track: AudioTrack = {
    kind: "aac",
    number: 2,
    timescale: 44_100,
    clockRate: 44_100,
    config: Buffer.from("1210", "hex"),
    channels: 2,
    samples: tableOf(parts, 1024, 0, () => true),
  };
  return { track, bytes, read: readerOf(bytes) };
}

function tableOf(parts: Buffer[], duration: number, delay: number, isSync: (sample: number) => boolean): SampleTable {
  let offset = 0;
  const offsets = parts.map((part) => {
    offset += part.length;
    return offset - part.length;
  });
  const times = parts.map((_, sample) => sample * duration);
  return new SampleTable({
    offsets: Float64Array.from(offsets),
    sizes: Uint32Array.from(parts, ({ length }) => length),
    decodeTimes: Float64Array.from(times, (time) => time - delay),
    presentationTimes: Float64Array.from(times),
    syncs: Uint8Array.from(parts, (_, sample) => Number(isSync(sample))),
    lastDuration: duration,
  });
}

function lengthOf(unit: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(unit.length);
  return length;
}

/** A slice, a message, a delimiter; nothing; now and then one that needs many packets. */
const unit = fc
  .tuple(
    fc.constantFrom(0x41, 0x65, 0x06, 0x09),
    fc.oneof({ weight: 5, arbitrary: fc.nat(150) }, fc.nat(3_000)),
    fc.nat(),
  )
  .map(([header, length, seed]) => {
    const bytes = Buffer.alloc(length, Buffer.from(`${seed} `));
    if (length > 0) bytes[0] = header;
    return bytes;
  });

/** Units of the samples of a track. */
export const film = fc.array(fc.array(unit, { maxLength: 4 }), { minLength: 1, maxLength: 12 });

/** Samples of a track. */
export const song = fc.array(
  fc.nat(1_500).map((length) => Buffer.alloc(length, length & 0xff)),
  { minLength: 1, maxLength: 12 },
);
