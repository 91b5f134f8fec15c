/** Media files as what is sent of them: an index of a file, and from it every RTP and RTCP packet as a pure function. */
export { MediaError, type MediaProblem } from "./error.js";
export { type Feedback, parseFeedback, type Reception } from "./feedback.js";
export { PAYLOAD_MIN } from "./fragments.js";
export { type Movie, readMovie } from "./movie.js";
export type { Read } from "./read.js";
export { type Report, reportLength, reportPacket } from "./report.js";
export { RTP_HEADER, Stream, type StreamStart } from "./stream.js";
export type { AudioTrack, Track, VideoTrack } from "./track.js";
