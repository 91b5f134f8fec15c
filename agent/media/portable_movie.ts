import type { Movie } from "./movie.js";
import { type SampleColumns, SampleTable } from "./samples.js";
import type { AudioTrack, Track, VideoTrack } from "./track.js";

type Portable<T> = Omit<T, "samples"> & { columns: SampleColumns };

/** A movie as it goes from one thread to another, where it arrives without its classes. */
export interface PortableMovie {
  tracks: Array<Portable<VideoTrack> | Portable<AudioTrack>>;
  durationUs: number;
}

/** @returns with it, what is moved rather than copied: the movie itself is of no use any more */
export function portable({ tracks, durationUs }: Movie): { movie: PortableMovie; moved: ArrayBufferLike[] } {
  const plain = tracks.map(({ samples, ...track }) => ({ ...track, columns: samples.columns }));
  const columns = plain.flatMap(({ columns: { lastDuration, ...arrays } }) => Object.values(arrays));
  return { movie: { tracks: plain, durationUs }, moved: columns.map(({ buffer }) => buffer) };
}

export function fromPortable({ tracks, durationUs }: PortableMovie): Movie {
  return { tracks: tracks.map(trackOf), durationUs };
}

function trackOf({ columns, ...track }: PortableMovie["tracks"][number]): Track {
  const samples = new SampleTable(columns);
  // Buffers arrive as plain arrays.
  if (track.kind === "aac") return { ...track, samples, config: Buffer.from(track.config) };
  const sets = (list: Uint8Array[]) => list.map((set) => Buffer.from(set));
  return { ...track, samples, sequenceSets: sets(track.sequenceSets), pictureSets: sets(track.pictureSets) };
}
