import { parseDate } from "./date.js";

/** What the client may compare with. */
export interface Representation {
  /** Strong, with its quotes. */
  etag: string;
  /** Unix time, whole seconds. */
  lastModified: number;
}

/**
 * Evaluates the preconditions of a GET or HEAD in their order (RFC 9110 section 13.2.2).
 * @returns 200 where the request goes on, else the status that answers it.
 */
export function preconditions(
  headers: Map<string, string>,
  present: Representation,
  nowSeconds: number,
): 200 | 304 | 412 {
  const ifMatch = headers.get("if-match");
  if (ifMatch !== undefined) {
    if (!matches(ifMatch, present.etag, "strong")) return 412;
  } else {
    const since = dateOf(headers.get("if-unmodified-since"), nowSeconds);
    if (since !== undefined && present.lastModified > since) return 412;
  }
  const ifNoneMatch = headers.get("if-none-match");
  if (ifNoneMatch !== undefined) return matches(ifNoneMatch, present.etag, "weak") ? 304 : 200;
  const since = dateOf(headers.get("if-modified-since"), nowSeconds);
  return since !== undefined && present.lastModified <= since ? 304 : 200;
}

/** Whether a Range header counts (RFC 9110 section 13.1.5): there is no If-Range, or it names exactly what is present. */
export function rangeApplies(headers: Map<string, string>, present: Representation, nowSeconds: number): boolean {
  const ifRange = headers.get("if-range");
  if (ifRange === undefined) return true;
  if (ifRange.startsWith('"')) return ifRange === present.etag;
  const date = dateOf(ifRange, nowSeconds);
  // A date is strong only if nothing can have changed within its second (section 8.8.2.2).
  return date !== undefined && date === present.lastModified && nowSeconds - present.lastModified >= 1;
}

/** A list of entity tags, or "*". The present tag is strong, so that a strong comparison only rules out the list's weak ones. */
function matches(list: string, etag: string, comparison: "strong" | "weak"): boolean {
  if (list.trim() === "*") return true;
  for (const [tag] of list.matchAll(/(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"/g)) {
    if (tag === etag || (comparison === "weak" && tag === `W/${etag}`)) return true;
  }
  return false;
}

function dateOf(value: string | undefined, nowSeconds: number): number | undefined {
  return value === undefined ? undefined : parseDate(value, nowSeconds);
}
