import { type Box, type BoxBudget, boxesIn } from "./boxes.js";
import { decode } from "./decoding.js";
import { MediaError } from "./error.js";
import type { SampleColumns } from "./samples.js";

/** Of one sample, bytes: an intra frame of 4K film at its best has 2 or 3 million. */
export const SAMPLE_MAX = 8 * 2 ** 20;
/** Of one track: 9 hours of film at 60 frames a second. */
export const SAMPLES_MAX = 2_000_000;

/**
 * The samples of a track from its sample table box (ISO/IEC 14496-12 section 8.5), of which only the first description is served.
 * @param shift ticks that the edit list adds to all times
 * @param fileSize no sample may lie behind it
 * Throws MediaError.
 */
export function readSamples(table: Buffer, shift: number, fileSize: number, budget: BoxBudget): SampleColumns {
  const boxes = new Map(boxesIn(table, budget).map((box) => [box.type, box]));
  const sizes = sizesOf(need(boxes, "stsz"));
  const { times, lastDuration } = decodeTimesOf(need(boxes, "stts"), sizes.length, shift);
  return {
    sizes,
    offsets: offsetsOf(boxes, sizes, fileSize),
    decodeTimes: times,
    presentationTimes: presentationTimesOf(boxes.get("ctts"), times),
    syncs: syncsOf(boxes.get("stss"), sizes.length),
    lastDuration,
  };
}

function need(boxes: Map<string, Box>, type: string): Box {
  const box = boxes.get(type);
  if (!box) throw new MediaError("malformed", `a track has no box ${type}`);
  return box;
}

function sizesOf(box: Box): Uint32Array {
  // One size for all of them needs no list, so that nothing but this bounds their number.
  const count = box.body.length >= 12 ? box.body.readUInt32BE(8) : 0;
  if (count > SAMPLES_MAX) throw new MediaError("too large", `a track has ${count} samples`);
  const sizes = Uint32Array.from(decode(box, "stsz").sample_sizes);
  const largest = sizes.reduce((a, b) => Math.max(a, b), 0);
  if (largest > SAMPLE_MAX) throw new MediaError("too large", `a sample has ${largest} bytes`);
  return sizes;
}

/** A run a list entry: `each` gets its value for every sample. What is said of samples that are not there counts for nothing. */
function runs(
  counts: number[],
  values: number[],
  samples: number,
  each: (sample: number, value: number) => void,
): void {
  let sample = 0;
  for (let run = 0; run < counts.length && sample < samples; run++) {
    const end = Math.min(samples, sample + (counts[run] as number));
    for (; sample < end; sample++) each(sample, values[run] as number);
  }
  if (sample < samples) throw new MediaError("malformed", "a track does not say the time of every sample");
}

function decodeTimesOf(box: Box, count: number, shift: number): { times: Float64Array; lastDuration: number } {
  const { sample_counts, sample_deltas } = decode(box, "stts");
  const times = new Float64Array(count);
  let time = shift;
  let lastDuration = 0;
  runs(sample_counts, sample_deltas, count, (sample, duration) => {
    times[sample] = time;
    time += duration;
    lastDuration = duration;
  });
  return { times, lastDuration };
}

function presentationTimesOf(box: Box | undefined, decodeTimes: Float64Array): Float64Array {
  const times = Float64Array.from(decodeTimes);
  if (!box) return times;
  const { sample_counts, sample_offsets } = decode(box, "ctts");
  runs(sample_counts, sample_offsets, times.length, (sample, offset) => {
    times[sample] = (times[sample] as number) + offset;
  });
  return times;
}

function syncsOf(box: Box | undefined, count: number): Uint8Array {
  const syncs = new Uint8Array(count);
  if (!box) return syncs.fill(1);
  for (const number of decode(box, "stss").sample_numbers ?? []) {
    if (number >= 1 && number <= count) syncs[number - 1] = 1;
  }
  return syncs;
}

/** Samples lie in chunks, one behind the other; runs of chunks have equally many. */
function offsetsOf(boxes: Map<string, Box>, sizes: Uint32Array, fileSize: number): Float64Array {
  const long = boxes.get("co64");
  const chunks = long ? decode(long, "co64").chunk_offsets : decode(need(boxes, "stco"), "stco").chunk_offsets;
  const { first_chunk, samples_per_chunk, sample_description_index } = decode(need(boxes, "stsc"), "stsc");
  const offsets = new Float64Array(sizes.length);
  let sample = 0;
  for (let run = 0; run < first_chunk.length && sample < sizes.length; run++) {
    if (sample_description_index[run] !== 1) {
      throw new MediaError("unsupported", "the coding of a track changes within it");
    }
    const end = Math.min((first_chunk[run + 1] ?? chunks.length + 1) - 1, chunks.length);
    for (let chunk = (first_chunk[run] as number) - 1; chunk < end; chunk++) {
      let offset = chunks[chunk] ?? Number.NaN;
      for (let i = 0; i < (samples_per_chunk[run] as number) && sample < sizes.length; i++, sample++) {
        offsets[sample] = offset;
        offset += sizes[sample] as number;
        if (!(offset <= fileSize)) throw new MediaError("malformed", "a sample lies behind the end of the file");
      }
    }
  }
  if (sample < sizes.length) throw new MediaError("malformed", "a track does not say where every sample is");
  return offsets;
}
