/** Media files as what is sent of them: an index of a file, and from it every RTP and RTCP packet as a pure function. */
export { MediaError, type MediaProblem } from "./error.js";
export { type Movie, readMovie } from "./movie.js";
export type { Read } from "./read.js";
export type { AudioTrack, Track, VideoTrack } from "./track.js";
