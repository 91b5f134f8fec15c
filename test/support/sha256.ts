import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";

/** SHA-256 of a file, or of a part of it (`end` is exclusive), in hex. */
export async function sha256Of(path: string, start = 0, end = Number.POSITIVE_INFINITY): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { start, end: end - 1, highWaterMark: 1024 * 1024 })) {
    hash.update(chunk as Buffer);
  }
  return hash.digest("hex");
}
