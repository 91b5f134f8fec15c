import { MICROSECONDS } from "../../media/index.js";

/** A part of the normal play time (RFC 2326 section 3.6). */
export interface NptRange {
  /** Microseconds. "now": wherever playing is or would go on; undefined: not said, which means the same. */
  start: number | "now" | undefined;
  /** Microseconds, past `start`; undefined: to the end. */
  end: number | undefined;
}

const TIME = "now|\\d{1,9}(?:\\.\\d{0,9})?|\\d{1,5}:[0-5]?\\d:[0-5]?\\d(?:\\.\\d{0,9})?";
const RANGE = new RegExp(`^npt[ \\t]*=[ \\t]*(${TIME})?[ \\t]*-[ \\t]*(${TIME})?[ \\t]*(?:;.*)?$`, "i");

/** A Range header. undefined where it is none, where it is not in npt, or where it ends before it begins: 457 to all of them. */
export function parseNptRange(header: string): NptRange | undefined {
  const match = RANGE.exec(header);
  if (!match) return undefined;
  const [, from, to] = match;
  if (from === undefined && to === undefined) return undefined;
  const start = from === undefined ? undefined : timeOf(from);
  const end = to === undefined ? undefined : timeOf(to);
  if (end === "now" || (typeof start === "number" && end !== undefined && end <= start)) return undefined;
  return { start, end };
}

/** "npt=1.500-20.000", as in the header and in SDP. @param endUs undefined: open */
export function formatNptRange(startUs: number, endUs: number | undefined): string {
  return `npt=${secondsOf(startUs)}-${endUs === undefined ? "" : secondsOf(endUs)}`;
}

function timeOf(text: string): number | "now" {
  if (text.toLowerCase() === "now") return "now";
  const [whole = "", fraction = ""] = text.split(".");
  const seconds = whole.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
  return seconds * MICROSECONDS + Number(fraction.padEnd(6, "0").slice(0, 6));
}

/** Milliseconds at least, and as exact as it is. */
function secondsOf(us: number): string {
  return (us / MICROSECONDS).toFixed(6).replace(/0{1,3}$/, "");
}
