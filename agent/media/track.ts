import type { SampleTable } from "./samples.js";

interface TrackBase {
  /** From 1, in the order of the movie's served tracks; names the track in URLs. */
  number: number;
  /** Ticks a second. */
  timescale: number;
  /** Of RTP timestamps, ticks a second. */
  clockRate: number;
  samples: SampleTable;
}

/** ISO/IEC 14496-15: each sample is an access unit, each of its NAL units behind its length. */
export interface VideoTrack extends TrackBase {
  kind: "h264";
  /** Bytes of such a length: 1, 2 or 4. */
  lengthSize: number;
  /** NAL units. */
  sequenceSets: Buffer[];
  pictureSets: Buffer[];
}

/** Each sample is a raw_data_block of AAC (ISO/IEC 14496-3). */
export interface AudioTrack extends TrackBase {
  kind: "aac";
  /** AudioSpecificConfig. */
  config: Buffer;
  channels: number;
}

export type Track = VideoTrack | AudioTrack;
