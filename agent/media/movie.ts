import { parseAudioConfig } from "./audio_config.js";
import { type Box, BoxBudget, boxAt, boxesIn, readMovieBox } from "./boxes.js";
import { decode } from "./decoding.js";
import { MediaError } from "./error.js";
import type { Read } from "./read.js";
import { readSamples } from "./sample_boxes.js";
import { type SampleColumns, SampleTable } from "./samples.js";
import { MICROSECONDS, rescale } from "./time.js";
import type { Track } from "./track.js";

/** The index of an MP4 file: what there is, where and when. Computed from its movie box alone. */
export interface Movie {
  /** In the file's order; one of pictures, one of sound, or both. */
  tracks: Track[];
  /** Up to the end of what is shown last, microseconds. */
  durationUs: number;
}

/** Samples of a track beside what its kind says of it. */
interface Plain {
  number: number;
  timescale: number;
  samples: SampleTable;
}

const TRACKS_MAX = 64;
/** Of a sample entry before the boxes in it (ISO/IEC 14496-12 sections 8.5.2 and 12), bytes. */
const VISUAL_ENTRY = 78;
const AUDIO_ENTRY = 28;
/** What versions 1 and 2 of QuickTime's sound description have beside that. */
const AUDIO_ENTRY_MORE = [0, 16, 36];
const DESCRIPTOR_CONFIG = 4;
const DESCRIPTOR_SPECIFIC = 5;
/** Object types that are AAC: of MPEG-4, and of MPEG-2 main, LC and SSR. */
const AAC_TYPES = [0x40, 0x66, 0x67, 0x68];
/** RFC 3640 section 3.3.6: the size of an access unit has 13 bits. */
const AUDIO_SAMPLE_MAX = 2 ** 13 - 1;
const VIDEO_CLOCK = 90_000;

/**
 * Reads the index of an MP4 file: its first video track, which must be H.264, and its first audio track, which must be AAC. The media
 * themselves are not read. Computing takes a second or two for a million samples, which is some hours of film: whoever has others to serve
 * leaves it to an Indexer.
 * @param size of the file, bytes
 * Throws MediaError; whatever `read` throws.
 */
export async function readMovie(read: Read, size: number): Promise<Movie> {
  const budget = new BoxBudget();
  const boxes = boxesIn(await readMovieBox(read, size), budget);
  if (boxes.some(({ type }) => type === "mvex")) throw new MediaError("unsupported", "the file is fragmented");
  const header = boxes.find(({ type }) => type === "mvhd");
  if (!header) throw new MediaError("malformed", "the movie has no header");
  const movieTimescale = timescaleOf(decode(header, "mvhd").timescale);
  const boxed = boxes.filter(({ type }) => type === "trak");
  if (boxed.length > TRACKS_MAX) throw new MediaError("too large", `the movie has ${boxed.length} tracks`);
  const tracks: Track[] = [];
  const seen = new Set<string>();
  for (const { body } of boxed) {
    const parts = boxesIn(body, budget);
    const kind = handlerOf(parts, budget);
    if ((kind !== "vide" && kind !== "soun") || seen.has(kind)) continue;
    seen.add(kind);
    tracks.push(readTrack(parts, kind, { number: tracks.length + 1, movieTimescale, fileSize: size, budget }));
  }
  if (tracks.length === 0) throw new MediaError("unsupported", "the movie has neither pictures nor sound");
  return { tracks, durationUs: Math.max(...tracks.map(endOf)) };
}

interface Surroundings {
  number: number;
  movieTimescale: number;
  fileSize: number;
  budget: BoxBudget;
}

function readTrack(parts: Box[], kind: "vide" | "soun", around: Surroundings): Track {
  const { number, movieTimescale, fileSize, budget } = around;
  const timescale = timescaleOf(decode(need(parts, ["mdia", "mdhd"], budget), "mdhd").timescale);
  const shift = shiftOf(boxAt(parts, ["edts", "elst"], budget), timescale, movieTimescale);
  const table = need(parts, ["mdia", "minf", "stbl"], budget).body;
  const samples = readSamples(table, shift, fileSize, budget);
  if (samples.sizes.length === 0) throw new MediaError("malformed", "a track has no samples");
  const entry = boxesIn(need(boxesIn(table, budget), ["stsd"], budget).body.subarray(8), budget)[0];
  if (!entry) throw new MediaError("malformed", "a track does not say how it is coded");
  const plain = { number, timescale, samples: new SampleTable(samples) };
  return kind === "vide" ? videoTrack(plain, entry, budget) : audioTrack(plain, entry, samples, budget);
}

function videoTrack(plain: Plain, entry: Box, budget: BoxBudget): Track {
  if (entry.type !== "avc1" && entry.type !== "avc3") {
    throw new MediaError("unsupported", `its pictures are coded as ${printable(entry.type)}, not as H.264`);
  }
  const box = boxesIn(entry.body.subarray(VISUAL_ENTRY), budget).find(({ type }) => type === "avcC");
  if (!box) throw new MediaError("malformed", "its pictures have no decoder configuration");
  const { lengthSizeMinusOne, SPS, PPS } = decode(box, "avcC");
  if (lengthSizeMinusOne === 2) throw new MediaError("malformed", "lengths of NAL units cannot have three bytes");
  const sets = (list: ArrayLike<{ data: Uint8Array }>) =>
    Array.from(list, ({ data }) => Buffer.from(data)).filter(({ length }) => length > 0);
  return {
    ...plain,
    kind: "h264",
    clockRate: VIDEO_CLOCK,
    lengthSize: lengthSizeMinusOne + 1,
    sequenceSets: sets(SPS),
    pictureSets: sets(PPS),
  };
}

function audioTrack(plain: Plain, entry: Box, samples: SampleColumns, budget: BoxBudget): Track {
  if (entry.type !== "mp4a") {
    throw new MediaError("unsupported", `its sound is coded as ${printable(entry.type)}, not as AAC`);
  }
  if (entry.body.length < AUDIO_ENTRY) throw new MediaError("malformed", "its sound is not described");
  const inside = entry.body.subarray(AUDIO_ENTRY + (AUDIO_ENTRY_MORE[entry.body.readUInt16BE(8)] ?? 0));
  const boxes = boxesIn(inside, budget);
  const box = boxAt(boxes, ["esds"], budget) ?? boxAt(boxes, ["wave", "esds"], budget);
  const descriptor = box && decode(box, "esds").esd.findDescriptor?.(DESCRIPTOR_CONFIG);
  if (!descriptor) throw new MediaError("malformed", "its sound does not say how it is coded");
  if (!AAC_TYPES.includes(descriptor.oti)) throw new MediaError("unsupported", "its sound is not AAC");
  const config: Uint8Array | undefined = descriptor.findDescriptor(DESCRIPTOR_SPECIFIC)?.data;
  if (!config) throw new MediaError("malformed", "its sound has no decoder configuration");
  const largest = samples.sizes.reduce((a, b) => Math.max(a, b), 0);
  if (largest > AUDIO_SAMPLE_MAX) throw new MediaError("unsupported", `a sample of its sound has ${largest} bytes`);
  const { sampleRate, channels } = parseAudioConfig(Buffer.from(config));
  return {
    ...plain,
    kind: "aac",
    clockRate: sampleRate,
    config: Buffer.from(config),
    channels: channels ?? Math.max(1, entry.body.readUInt16BE(16)),
  };
}

/**
 * Ticks to be added to a track's own times (ISO/IEC 14496-12 section 8.6.6): how much later than the movie it begins, less what is cut
 * off at its beginning. How much is cut off at its end is not looked at.
 */
function shiftOf(box: Box | undefined, timescale: number, movieTimescale: number): number {
  let shift = 0;
  const entries = box ? decode(box, "elst").entries : [];
  for (const [at, edit] of entries.entries()) {
    if (edit.media_time === -1) {
      // To the nearest tick: the movie's are coarser as a rule.
      shift += Math.floor((rescale(2 * edit.segment_duration, movieTimescale, timescale) + 1) / 2);
      continue;
    }
    const normal = edit.media_rate_integer === 1 && edit.media_rate_fraction === 0;
    if (!normal || at < entries.length - 1) throw new MediaError("unsupported", "a track is edited");
    return shift - edit.media_time;
  }
  return shift;
}

function endOf({ samples, timescale }: Track): number {
  let last = 0;
  for (let i = 0; i < samples.count; i++) {
    const duration = samples.decodeTime(i + 1) - samples.decodeTime(i);
    last = Math.max(last, samples.presentationTime(i) + duration);
  }
  return rescale(last, timescale, MICROSECONDS);
}

function handlerOf(parts: Box[], budget: BoxBudget): string {
  const box = boxAt(parts, ["mdia", "hdlr"], budget);
  return box ? decode(box, "hdlr").handler : "";
}

function need(boxes: Box[], path: string[], budget: BoxBudget): Box {
  const box = boxAt(boxes, path, budget);
  if (!box) throw new MediaError("malformed", `a track has no box ${path.at(-1)}`);
  return box;
}

function timescaleOf(value: number): number {
  if (!(value > 0)) throw new MediaError("malformed", "a time scale is 0");
  return value;
}

/** A box's type, whatever bytes it has. */
function printable(type: string): string {
  return type.replace(/[^ -~]/g, "?");
}
