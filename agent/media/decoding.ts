import { BoxParser, MP4BoxBuffer, MultiBufferStream } from "mp4box";
import type { Box } from "./boxes.js";
import { MediaError } from "./error.js";

/**
 * The door to mp4box. It reads the boxes that a movie's index is made of, one by one: handed a whole movie it would make an object
 * of some twenty fields a sample, and follow counts in boxes that nobody here looks at.
 */
type Parsers = (typeof BoxParser)["box"];
type Decodable =
  | "mvhd"
  | "mdhd"
  | "hdlr"
  | "elst"
  | "stsz"
  | "stts"
  | "ctts"
  | "stsc"
  | "stco"
  | "co64"
  | "stss"
  | "avcC"
  | "esds";

const HEADER_LENGTH = 8;

/** Throws MediaError. Counts in a box are bounded by its length, but for those of stsz, which whoever asks for it bounds. */
export function decode<T extends Decodable>(box: Box, type: T): InstanceType<Parsers[T]> {
  const size = HEADER_LENGTH + box.body.length;
  const bytes = new MP4BoxBuffer(size);
  box.body.copy(new Uint8Array(bytes), HEADER_LENGTH);
  bytes.fileStart = 0;
  const stream = new MultiBufferStream(bytes);
  stream.seek(HEADER_LENGTH);
  const parsed = new BoxParser.box[type](size) as InstanceType<Parsers[T]>;
  parsed.hdr_size = HEADER_LENGTH;
  parsed.start = 0;
  try {
    parsed.parse(stream);
  } catch (cause) {
    throw new MediaError("malformed", `its box ${type} cannot be read`, cause);
  }
  return parsed;
}
