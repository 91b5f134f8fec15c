/** A film of sound alone, whose index is as large as it can be made: a list entry for each of its samples. */
export function longFilm(samples: number): Buffer {
  const counted = (count: number, words: (entry: number) => number[]): Buffer => {
    const list = new Uint32Array(count * words(0).length);
    for (let entry = 0; entry < count; entry++) list.set(words(entry), entry * words(0).length);
    return Buffer.concat([numbers(count), Buffer.from(list.buffer).swap32()]);
  };
  const config = "0000000003190001000411401500000000000000000000000502121006010200";
  const entry = box("mp4a", Buffer.from(`${"00".repeat(28)}`, "hex"), box("esds", Buffer.from(config, "hex")));
  const table = box(
    "stbl",
    box("stsd", numbers(0, 1), entry),
    box(
      "stts",
      numbers(0),
      counted(samples, (at) => [1, 1_000 + (at % 2)]),
    ),
    box("stsc", numbers(0, 1, 1, 1, 1)),
    box(
      "stsz",
      numbers(0, 0),
      counted(samples, () => [1]),
    ),
    box(
      "stco",
      numbers(0),
      counted(samples, (at) => [at]),
    ),
  );
  const header = numbers(0, 0, 0, 44_100, 0);
  const media = box("mdia", box("mdhd", header, numbers(0)), box("hdlr", numbers(0, 0), SOUND), box("minf", table));
  const movie = box("moov", box("mvhd", header, Buffer.alloc(80)), box("trak", media));
  return Buffer.concat([movie, box("mdat", Buffer.alloc(samples))]);
}

const SOUND = Buffer.concat([Buffer.from("soun"), Buffer.alloc(13)]);

function box(type: string, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([numbers(8 + body.length), Buffer.from(type), body]);
}

function numbers(...list: number[]): Buffer {
  const bytes = Buffer.alloc(4 * list.length);
  for (const [at, number] of list.entries()) bytes.writeUInt32BE(number, 4 * at);
  return bytes;
}
