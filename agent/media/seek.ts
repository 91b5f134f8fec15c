import type { Movie } from "./movie.js";
import { MICROSECONDS, rescale } from "./time.js";
import type { Track } from "./track.js";

/** Where playing begins. */
export interface Start {
  /** On the movie's time line, microseconds: at most what was asked for, but where nothing is that early. */
  startUs: number;
  /** The first sample of each track, in the order of `movie.tracks`. */
  samples: number[];
}

/**
 * The nearest place at or before `us` where decoding can begin: a sync sample of the pictures. Sound begins with the sample that is
 * playing then.
 */
export function startAt(movie: Movie, us: number): Start {
  const video = movie.tracks.find(({ kind }) => kind === "h264");
  const startUs = video ? presentedUs(video, lastSyncAt(video, us)) : Math.min(us, movie.durationUs);
  const samples = movie.tracks.map((track) => lastSyncAt(track, startUs));
  return { startUs: Math.max(0, startUs), samples };
}

/** The sample behind the last one that is presented before `us`: where sending ends. */
export function endAt({ samples, timescale }: Track, us: number): number {
  for (let end = samples.count; end > 0; end--) {
    if (rescale(samples.presentationTime(end - 1), timescale, MICROSECONDS) < us) return end;
  }
  return 0;
}

/** The last sync sample presented at `us` or before; the first one where none is. */
function lastSyncAt(track: Track, us: number): number {
  const { samples } = track;
  let found: number | undefined;
  for (let sample = 0; sample < samples.count; sample++) {
    if (!samples.isSync(sample)) continue;
    if (found !== undefined && presentedUs(track, sample) > us) break;
    found = sample;
  }
  return found ?? 0;
}

function presentedUs({ samples, timescale }: Track, sample: number): number {
  return rescale(samples.presentationTime(sample), timescale, MICROSECONDS);
}
