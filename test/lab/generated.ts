import { createHash } from "node:crypto";

export const CHUNK_BYTES = 1000;

/** The bytes of the generated response with this seed, in chunks; the same for the same seed. */
export function* generated(bytes: number, seed: string): Generator<Buffer> {
  for (let at = 0; at < bytes; at += CHUNK_BYTES) {
    const blocks: Buffer[] = [];
    for (let block = 0; block < CHUNK_BYTES; block += 32) {
      blocks.push(
        createHash("sha256")
          .update(`${seed} ${at + block}`)
          .digest(),
      );
    }
    yield Buffer.concat(blocks).subarray(0, Math.min(CHUNK_BYTES, bytes - at));
  }
}

/** SHA-256 of all of it. */
export function digestOfGenerated(bytes: number, seed: string): string {
  const hash = createHash("sha256");
  for (const chunk of generated(bytes, seed)) hash.update(chunk);
  return hash.digest("hex");
}
