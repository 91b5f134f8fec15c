import type { Stream } from "./stream.js";

/** A track's part in a range: which of its samples are sent. */
export interface Lane {
  stream: Stream;
  firstSample: number;
  /** The one behind the last. */
  endSample: number;
}

/** How far a lane has been sent: what comes next, and what has gone before. Five numbers that a record can keep. */
export interface LanePosition {
  sample: number;
  /** Of that sample's packets. */
  fragment: number;
  /** Sent: also the number of the next one. */
  packets: number;
  /** Sent, of payload (RFC 3550 section 6.4.1). */
  octets: number;
  /** Sender reports sent in this range. */
  reports: number;
}

/** Before anything was sent. */
export function beginningOf(lane: Lane): LanePosition {
  return { sample: lane.firstSample, fragment: 0, packets: 0, octets: 0, reports: 0 };
}
