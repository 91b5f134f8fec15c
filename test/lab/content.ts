import { createCipheriv } from "node:crypto";
import { closeSync, mkdirSync, openSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const MIB = 1024 * 1024;
const BLOCK = MIB;

/** What a lab without CONTENT serves: name to bytes. Small enough for every server to know the digests within a second. */
export const DEFAULT_FILES: Readonly<Record<string, number>> = {
  "1k.bin": 1024,
  "100k.bin": 100 * 1024,
  "1m.bin": MIB,
  "10m.bin": 10 * MIB,
  "100m.bin": 100 * MIB,
};

/**
 * Writes a file of pseudo-random bytes without holes, the same for the same name and size: AES-128 in counter mode over
 * zeros, its key made from the name. About 1 GB/s.
 */
export function writeRandomFile(path: string, name: string, bytes: number): void {
  const cipher = createCipheriv("aes-128-ctr", Buffer.from(name.padEnd(16, "-")).subarray(0, 16), Buffer.alloc(16));
  const zeros = Buffer.alloc(BLOCK);
  const fd = openSync(path, "w");
  try {
    for (let left = bytes; left > 0; left -= BLOCK) {
      const block = cipher.update(left < BLOCK ? zeros.subarray(0, left) : zeros);
      for (let done = 0; done < block.length; ) done += writeSync(fd, block, done);
    }
  } finally {
    closeSync(fd);
  }
}

/** Makes a directory of files to serve. */
export function makeContent(directory: string, files: Readonly<Record<string, number>> = DEFAULT_FILES): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "index.html"), "<!doctype html><title>Baton</title><p>Served through the VIP.</p>\n");
  writeFileSync(join(directory, "hello.txt"), "hello from baton\n");
  for (const [name, bytes] of Object.entries(files)) {
    const path = join(directory, name);
    if (statSync(path, { throwIfNoEntry: false })?.size !== bytes) writeRandomFile(path, name, bytes);
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) makeContent(process.argv[2]!);
