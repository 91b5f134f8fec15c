import { isIPv6 } from "../../../proto/flow.js";
import type { Movie, Track } from "../../media/index.js";
import { formatNptRange } from "./range.js";
import { trackControl } from "./url.js";

/** What a description says beside the movie. */
export interface Description {
  /** Names it among those of this origin; a number, up to 2^53. */
  id: number;
  /** Another one when the movie changes; it cannot be said which is the later one. */
  version: number;
  /** Shown to people. */
  title: string;
  /** The server's own address. */
  origin: string;
  /** Where it is sent for everybody; undefined: each client says where. */
  multicast?: {
    address: string;
    /** Ignored with IPv6, which has none in descriptions. */
    ttl: number;
    /** RTP's, one a track in the order of `movie.tracks`. */
    ports: number[];
  };
}

const FIRST_DYNAMIC = 96;

/** RTP payload type of a track: the first of those without a meaning of their own (RFC 3551 section 6) and up. */
export function payloadTypeOf({ number }: Pick<Track, "number">): number {
  return FIRST_DYNAMIC + number - 1;
}

/**
 * The session description of a movie (RFC 4566, RFC 2326 appendix C), a pure function. Control URLs are relative: the answer must have
 * Content-Base with a slash at its end.
 */
export function describe(movie: Movie, description: Description): Buffer {
  const { id, version, title, origin, multicast } = description;
  const lines = [
    "v=0",
    `o=- ${id} ${version} IN ${addressOf(origin)}`,
    `s=${oneLine(title) || " "}`,
    `c=IN ${multicast ? groupOf(multicast) : addressOf(isIPv6(origin) ? "::" : "0.0.0.0")}`,
    "t=0 0",
    "a=control:*",
    `a=range:${formatNptRange(0, movie.durationUs)}`,
  ];
  for (const [at, track] of movie.tracks.entries()) lines.push(...mediaLines(track, multicast?.ports[at] ?? 0));
  return Buffer.from(lines.map((line) => `${line}\r\n`).join(""));
}

function mediaLines(track: Track, port: number): string[] {
  const type = payloadTypeOf(track);
  const media = track.kind === "h264" ? "video" : "audio";
  const map = track.kind === "h264" ? "H264/90000" : `mpeg4-generic/${track.clockRate}/${track.channels}`;
  return [
    `m=${media} ${port} RTP/AVP ${type}`,
    `a=rtpmap:${type} ${map}`,
    `a=fmtp:${type} ${formatOf(track).join(";")}`,
    `a=control:${trackControl(track.number)}`,
  ];
}

/** RFC 6184 section 8.1; RFC 3640 section 4.1. */
function formatOf(track: Track): string[] {
  if (track.kind === "aac") {
    const mode = ["mode=AAC-hbr", "sizelength=13", "indexlength=3", "indexdeltalength=3"];
    return ["streamtype=5", "profile-level-id=1", ...mode, `config=${track.config.toString("hex").toUpperCase()}`];
  }
  const sets = [...track.sequenceSets, ...track.pictureSets].map((set) => set.toString("base64"));
  const profile = track.sequenceSets[0]?.subarray(1, 4);
  return [
    "packetization-mode=1",
    ...(profile?.length === 3 ? [`profile-level-id=${profile.toString("hex").toUpperCase()}`] : []),
    ...(sets.length > 0 ? [`sprop-parameter-sets=${sets.join(",")}`] : []),
  ];
}

function groupOf({ address, ttl }: { address: string; ttl: number }): string {
  return isIPv6(address) ? addressOf(address) : `${addressOf(address)}/${ttl}`;
}

function addressOf(address: string): string {
  return `${isIPv6(address) ? "IP6" : "IP4"} ${address}`;
}

function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  return text.replace(/[\0-\x1f\x7f]+/g, " ").trim();
}
