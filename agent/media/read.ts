import { MediaError } from "./error.js";

/** Reads `length` bytes of a file at `position`; fewer only where the file ends. Rejects as the system call did. */
export type Read = (position: number, length: number) => Promise<Buffer>;

/** As `read`, but never fewer bytes. Throws MediaError where the file ends before. */
export async function readExactly(read: Read, position: number, length: number): Promise<Buffer> {
  const bytes = await read(position, length);
  if (bytes.length < length) throw new MediaError("malformed", `the file ends within ${length} bytes at ${position}`);
  return bytes;
}
