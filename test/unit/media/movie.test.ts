import { readFileSync } from "node:fs";
import { copyFile, open, truncate } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { MediaError, readMovie, type Track } from "../../../agent/media/index.js";
import { testDirectory } from "../../support/directory.js";
import { encode, makeClip, openClip, probe, readerOf } from "./clip.js";

async function matches(path: string): Promise<Array<{ what: string; ours: unknown; theirs: unknown }>> {
  const clip = await openClip(path);
  const differences: Array<{ what: string; ours: unknown; theirs: unknown }> = [];
  for (const { kind, samples } of clip.movie.tracks) {
    const theirs = await probe(path, kind === "h264" ? "v" : "a");
    if (theirs.length !== samples.count) differences.push({ what: kind, ours: samples.count, theirs: theirs.length });
    for (const [sample, packet] of theirs.entries()) {
      const ours = {
        pts: samples.presentationTime(sample),
        dts: samples.decodeTime(sample),
        size: String(samples.size(sample)),
        pos: String(samples.offset(sample)),
        key: samples.isSync(sample),
      };
      const { pts, dts, size, pos, flags } = packet;
      const same = { pts: Number(pts), dts: Number(dts), size, pos, key: flags?.startsWith("K") };
      if (JSON.stringify(ours) !== JSON.stringify(same))
        differences.push({ what: `${kind} ${sample}`, ours, theirs: same });
    }
  }
  await clip.file.close();
  return differences;
}

test("every sample is where and when another reader finds it", async (t) => {
  const directory = testDirectory(t);
  t.deepEqual(await matches(await makeClip(directory, "end.mp4")), []);
  t.deepEqual(await matches(await makeClip(directory, "start.mp4", ["-movflags", "faststart"])), []);
  t.deepEqual(await matches(await makeClip(directory, "brand.mov", ["-f", "mov"])), [], "QuickTime");
  t.deepEqual(
    await matches(await makeClip(directory, "late.mp4", ["-output_ts_offset", "1.5"])),
    [],
    "begins with an empty edit",
  );
});

test("codecs", async (t) => {
  const clip = await openClip(await makeClip(testDirectory(t), "a.mp4", ["-ac", "2"]));
  const [video, audio] = clip.movie.tracks as [Track, Track];
  t.is(clip.movie.tracks.length, 2);
  if (video.kind !== "h264" || audio.kind !== "aac") return t.fail();
  t.deepEqual([video.number, audio.number], [1, 2]);
  t.is(video.lengthSize, 4);
  t.deepEqual(
    video.sequenceSets.map((set) => set[0] && set[0] & 0x1f),
    [7],
  );
  t.deepEqual(
    video.pictureSets.map((set) => set[0] && set[0] & 0x1f),
    [8],
  );
  t.is(audio.clockRate, 44_100);
  t.is(audio.channels, 2);
  t.is(audio.config.subarray(0, 2).toString("hex"), "1210");
  t.true(Math.abs(clip.movie.durationUs - 2_000_000) < 50_000, String(clip.movie.durationUs));
  await clip.file.close();
});

test("sound alone, pictures alone, and none", async (t) => {
  const directory = testDirectory(t);
  const clip = await makeClip(directory, "a.mp4");
  const kinds = async (path: string) => {
    const { movie, file } = await openClip(path);
    await file.close();
    return movie.tracks.map(({ kind, number }) => [kind, number]);
  };
  t.deepEqual(await kinds(await encode(directory, "sound.mp4", ["-i", clip, "-c", "copy", "-vn"])), [["aac", 1]]);
  t.deepEqual(await kinds(await encode(directory, "pictures.mp4", ["-i", clip, "-c", "copy", "-an"])), [["h264", 1]]);
});

test("what is in it but cannot be sent is named", async (t) => {
  const directory = testDirectory(t);
  const clip = await makeClip(directory, "a.mp4");
  const rows: Array<[string, string[], RegExp]> = [
    ["mpeg4.mp4", ["-c:v", "mpeg4", "-c:a", "copy"], /^its pictures are coded as mp4v, not as H.264$/],
    ["mp3.mp4", ["-c:v", "copy", "-c:a", "libmp3lame"], /^its sound is not AAC$/],
    ["ac3.mp4", ["-c:v", "copy", "-c:a", "ac3"], /^its sound is coded as ac-3, not as AAC$/],
    ["parts.mp4", ["-c", "copy", "-movflags", "frag_keyframe+empty_moov"], /^the file is fragmented$/],
  ];
  for (const [name, options, message] of rows) {
    const path = await encode(directory, name, ["-i", clip, ...options]);
    const error = await t.throwsAsync(openClip(path), { instanceOf: MediaError, message }, name);
    t.is(error?.problem, "unsupported", name);
  }
});

test("the media are not read, however large", async (t) => {
  const directory = testDirectory(t);
  const small = await makeClip(directory, "small.mp4");
  const bytes = readFileSync(small);
  const movie = bytes.indexOf("moov") - 4;
  const large = join(directory, "large.mp4");
  await copyFile(small, large);
  await truncate(large, movie);
  // 5 GiB of nothing in a box with a long size, ahead of the movie's.
  const hole = 5 * 2 ** 30;
  const header = Buffer.from("0000000166726565", "hex");
  const length = Buffer.alloc(8);
  length.writeBigUInt64BE(BigInt(hole));
  const file = await open(large, "r+");
  await file.write(Buffer.concat([header, length]), 0, 16, movie);
  await file.write(bytes, movie, bytes.length - movie, movie + hole);
  await file.close();
  t.deepEqual(await matches(large), []);
  const clip = await openClip(large);
  t.true(clip.bytesRead() < 10_000, String(clip.bytesRead()));
  await clip.file.close();
});

test("a file that is cut short or damaged is refused in a sentence, or read", async (t) => {
  const bytes = readFileSync(await makeClip(testDirectory(t), "a.mp4", ["-movflags", "faststart"]));
  const attempt = async (damaged: Buffer) => {
    try {
      await readMovie(readerOf(damaged), damaged.length);
    } catch (error) {
      if (!(error instanceof MediaError)) throw error;
      if (!/^[a-z][^\n]*[^.]$/.test(error.message)) throw new Error(`not a sentence's beginning: ${error.message}`);
    }
  };
  const movieEnd = bytes.indexOf("mdat");
  await fc.assert(fc.asyncProperty(fc.nat(movieEnd), (length) => attempt(bytes.subarray(0, length))));
  const change = fc.tuple(fc.nat(movieEnd), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff));
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 6 }), async (changes) => {
      const damaged = Buffer.from(bytes);
      for (const [at, value] of changes) damaged[at] = value;
      await attempt(damaged);
    }),
    { numRuns: 400 },
  );
  t.pass();
});

test("no file keeps us busy", async (t) => {
  const bytes = readFileSync(await makeClip(testDirectory(t), "a.mp4", ["-movflags", "faststart"]));
  const attempt = (damaged: Buffer) => readMovie(readerOf(damaged), damaged.length);
  const sizes = Buffer.from(bytes);
  const at = sizes.indexOf("stsz") + 8;
  sizes.writeUInt32BE(1, at);
  sizes.writeUInt32BE(0xffffffff, at + 4);
  await t.throwsAsync(attempt(sizes), { instanceOf: MediaError, message: "a track has 4294967295 samples" });
  const behind = Buffer.from(bytes);
  behind.fill(0x7f, behind.indexOf("stco") + 12, behind.indexOf("stco") + 16);
  await t.throwsAsync(attempt(behind), { instanceOf: MediaError, message: "a sample lies behind the end of the file" });
  const empty = Buffer.alloc(16 * 2_000);
  for (let box = 0; box < 2_000; box++) empty.write("\0\0\0\x08free", box * 8, "latin1");
  await t.throwsAsync(attempt(empty), { instanceOf: MediaError, message: /^more than 1024 boxes/ });
  const many = Buffer.concat([
    Buffer.from("\0\x01\x86\xa8moov", "latin1"),
    Buffer.from("\0\0\0\x08free".repeat(12_500), "latin1"),
  ]);
  many.writeUInt32BE(many.length, 0);
  await t.throwsAsync(attempt(many), { instanceOf: MediaError, message: /more than 10000 boxes/ });
  await t.throwsAsync(attempt(Buffer.alloc(0)), { instanceOf: MediaError, message: "the file has no movie box" });
  await t.throwsAsync(attempt(Buffer.from("GIF89a and then something")), { instanceOf: MediaError });
});
