import { MediaError } from "./error.js";
import { type Read, readExactly } from "./read.js";

/** One box of an ISO base media file (ISO/IEC 14496-12 section 4.2), without its header. */
export interface Box {
  type: string;
  body: Buffer;
}

/** The movie box is read into memory; 64 MiB are some 5 million samples. */
const MOVIE_MAX = 64 * 2 ** 20;
/** Boxes beside each other at the top of a file. */
const TOP_MAX = 1_024;
/** Boxes of a movie that are looked at. */
const BOXES_MAX = 10_000;
const LONGEST_HEADER = 16;

/** Counts the boxes of one movie, so that no file keeps us busy. */
export class BoxBudget {
  private left = BOXES_MAX;

  spend(): void {
    if (this.left-- === 0) throw new MediaError("too large", `the movie has more than ${BOXES_MAX} boxes`);
  }
}

/**
 * The body of the file's movie box; of all else only the headers are read, wherever they lie.
 * @param size of the file, bytes
 * Throws MediaError.
 */
export async function readMovieBox(read: Read, size: number): Promise<Buffer> {
  let position = 0;
  for (let count = 0; position + 8 <= size; count++) {
    if (count === TOP_MAX) throw new MediaError("too large", `more than ${TOP_MAX} boxes come before the movie's`);
    const header = headerOf(await read(position, LONGEST_HEADER), size - position);
    if (!header) break;
    if (header.type === "moof") throw new MediaError("unsupported", "the file is fragmented");
    if (header.type === "moov") {
      if (header.size > MOVIE_MAX) throw new MediaError("too large", `the movie box has ${header.size} bytes`);
      return readExactly(read, position + header.length, header.size - header.length);
    }
    position += header.size;
  }
  throw new MediaError("malformed", "the file has no movie box");
}

/** The boxes that `body` consists of. A rest too short for a box is padding. Throws MediaError. */
export function boxesIn(body: Buffer, budget: BoxBudget): Box[] {
  const boxes: Box[] = [];
  for (let position = 0; body.length - position >= 8; ) {
    budget.spend();
    const header = headerOf(body.subarray(position), body.length - position);
    if (!header) throw new MediaError("malformed", "a box is larger than the one that it lies in");
    boxes.push({ type: header.type, body: body.subarray(position + header.length, position + header.size) });
    position += header.size;
  }
  return boxes;
}

/** The first box of that type, or along a path of types, each within the one before. */
export function boxAt(boxes: Box[], path: string[], budget: BoxBudget): Box | undefined {
  const [type, ...rest] = path;
  const box = boxes.find((one) => one.type === type);
  return box && rest.length > 0 ? boxAt(boxesIn(box.body, budget), rest, budget) : box;
}

/** @param room bytes up to the end of what the box lies in. undefined where it cannot be a box. */
function headerOf(bytes: Buffer, room: number): { type: string; length: number; size: number } | undefined {
  if (bytes.length < 8) return undefined;
  const type = bytes.toString("latin1", 4, 8);
  const short = bytes.readUInt32BE(0);
  if (short === 1 && bytes.length < LONGEST_HEADER) return undefined;
  const length = short === 1 ? LONGEST_HEADER : 8;
  const size = short === 1 ? Number(bytes.readBigUInt64BE(8)) : short === 0 ? room : short;
  return size < length || size > room ? undefined : { type, length, size };
}
