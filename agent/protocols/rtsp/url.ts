import { type TargetPath, targetPath } from "../http/target.js";

/** A file, or a track of it. */
export interface Media {
  kind: "media";
  /** Decoded names from the root; none is empty, "." or "..", none contains a slash or a NUL. */
  segments: string[];
  /** From 1; undefined: all tracks. */
  track: number | undefined;
  /** URL of the whole, without a slash at its end; ends up in headers, and is free of what could not be there. */
  base: string;
}

/** What a request is about: the server, with "*", or media. */
export type Subject = { kind: "server" } | Media;

const TRACK = /^trackID=([1-9]\d?)$/;
const URL_PARTS = /^rtsp:\/\/([\w.~%:[\]-]+)(\/[^?#]*)?(?:\?[^#]*)?$/i;

/**
 * The target of a request (RFC 2326 sections 3.2 and 6.1). undefined where it is malformed or leads above the root: 400.
 * A query means nothing; user information in a URL is for the client and has no place in what it sends.
 */
export function parseUrl(target: string): Subject | undefined {
  if (target === "*") return { kind: "server" };
  const [, authority, path = "/"] = URL_PARTS.exec(target) ?? [];
  if (authority === undefined) return undefined;
  const decoded: TargetPath | undefined = targetPath(path);
  if (!decoded) return undefined;
  const segments = [...decoded.segments];
  const track = TRACK.exec(segments.at(-1) ?? "")?.[1];
  if (track !== undefined) segments.pop();
  const base = `rtsp://${authority}${segments.map((segment) => `/${encodeURIComponent(segment)}`).join("")}`;
  return { kind: "media", segments, track: track === undefined ? undefined : Number(track), base };
}

/** How a track is named in a session description, relative to the base with a slash behind it. */
export function trackControl(track: number): string {
  return `trackID=${track}`;
}

/** URL of a track. */
export function trackUrl(base: string, track: number): string {
  return `${base}/${trackControl(track)}`;
}
