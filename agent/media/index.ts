/** Media files as what is sent of them: an index of a file, and from it every RTP and RTCP packet as a pure function. */
export { MediaError, type MediaProblem } from "./error.js";
export { type Feedback, parseFeedback, type Reception } from "./feedback.js";
export { PAYLOAD_MIN } from "./fragments.js";
export { Indexer } from "./indexer.js";
export { beginningOf, type Lane, type LanePosition } from "./lane.js";
export { type Movie, readMovie } from "./movie.js";
export type { Read } from "./read.js";
export { type Report, reportLength, reportPacket } from "./report.js";
export { type Item, type Reporting, Schedule, type Wanted } from "./schedule.js";
export { endAt, type Start, startAt } from "./seek.js";
export { RTP_HEADER, Stream, type StreamStart } from "./stream.js";
export { MICROSECONDS } from "./time.js";
export type { AudioTrack, Track, VideoTrack } from "./track.js";
