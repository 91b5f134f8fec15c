import type { Request } from "./request.js";

type Line = [string, string];

/**
 * Of one connection only, whatever Connection says (RFC 9110 section 7.6.1; RFC 9112 appendix C.2.2). Trailer is of the message, but goes
 * on only where what it announces does (trailers.ts).
 */
const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);
/** What a client asks of the object that it has or wants a part of. */
export const CONDITIONS = new Set([
  "if-match",
  "if-none-match",
  "if-modified-since",
  "if-unmodified-since",
  "if-range",
  "range",
]);
/** What a request says of who is before this hop. */
export const WRITTEN_ANEW = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via"];
const PSEUDONYM = "baton";

/** The names of the fields that end here, in lower case. */
export function ofOneHop(head: readonly Line[]): Set<string> {
  const names = new Set(HOP_BY_HOP);
  for (const [name, value] of head) {
    if (name.toLowerCase() !== "connection") continue;
    for (const option of value.split(",")) names.add(option.trim().toLowerCase());
  }
  return names;
}

/** Lines that go on to the next hop. */
function endToEnd(lines: readonly Line[]): Line[] {
  const hop = ofOneHop(lines);
  return lines.filter(([name]) => !hop.has(name.toLowerCase()));
}

/**
 * The request's header lines as the origin gets them: Host as the client wrote it, who the client is (RFC 7239, and as the older
 * X-Forwarded-* say it), and that it came by here (RFC 9110 section 7.6.3).
 * @param client address of the client, as text
 */
export function toOrigin(request: Request, client: string): Line[] {
  const lines = endToEnd(request.lines).filter(([name]) => !WRITTEN_ANEW.includes(name.toLowerCase()));
  const before = (name: string) => {
    const value = request.headers.get(name);
    return value === undefined ? "" : `${value}, `;
  };
  const host = request.headers.get("host");
  const node = client.includes(":") ? `"[${client}]"` : client;
  lines.push(["Forwarded", `${before("forwarded")}for=${node};proto=http${host ? `;host="${host}"` : ""}`]);
  lines.push(["X-Forwarded-For", `${before("x-forwarded-for")}${client}`], ["X-Forwarded-Proto", "http"]);
  if (host) lines.push(["X-Forwarded-Host", host]);
  lines.push(["Via", `${before("via")}1.${request.minorVersion} ${PSEUDONYM}`]);
  return lines;
}

/** The same request for the bytes [from, to) of what it named, if that is still the one with this ETag (RFC 9110 section 13.1.5). */
export function forRange(lines: readonly Line[], etag: string, from: number, to: number): Line[] {
  const kept = lines.filter(([name]) => !CONDITIONS.has(name.toLowerCase()));
  return [...kept, ["Range", `bytes=${from}-${to - 1}`], ["If-Range", etag]];
}

/** An answer's header lines as the client gets them. */
export function toClient(lines: readonly Line[]): Line[] {
  return endToEnd(lines);
}
