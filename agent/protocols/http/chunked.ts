/** The chunked transfer coding, as it is written (RFC 9112 section 7.1). */

/** Some bytes of a body; not none, which would end it. */
export function chunkOf(part: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from("\r\n")]);
}

/** The end of a body, and the field lines behind it. */
export function lastChunk(trailers: ReadonlyArray<[string, string]>): Buffer {
  const lines = trailers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return Buffer.from(`0\r\n${lines}\r\n`, "latin1");
}
