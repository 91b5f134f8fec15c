/** Bytes of an object: `offset`, `length` > 0. */
export interface ByteRange {
  offset: number;
  length: number;
}

/**
 * A Range header with one range (RFC 9110 section 14.1.2). "whole": the header says nothing that is served, which includes
 * several ranges: the whole object is as right an answer. "unsatisfiable": 416.
 */
export function parseRange(header: string | undefined, size: number): ByteRange | "whole" | "unsatisfiable" {
  const match = /^bytes=[ \t]*(?:(\d+)-(\d*)|-(\d+))[ \t]*$/i.exec(header ?? "");
  if (!match) return "whole";
  const [, first, last, suffix] = match;
  if (suffix !== undefined) {
    const length = Math.min(Number(suffix), size);
    return length === 0 ? "unsatisfiable" : { offset: size - length, length };
  }
  const offset = Number(first);
  const end = last ? Number(last) : Number.POSITIVE_INFINITY;
  if (end < offset) return "whole"; // invalid, hence ignored
  if (offset >= size) return "unsatisfiable";
  return { offset, length: Math.min(end, size - 1) - offset + 1 };
}
