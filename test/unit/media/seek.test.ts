import test from "ava";
import { endAt, type Movie, startAt } from "../../../agent/media/index.js";
import { rescale } from "../../../agent/media/time.js";
import { audioOf, videoOf } from "./synthetic.js";

const pictures = videoOf(Array.from({ length: 25 }, () => [Buffer.from([0x41, 1])])).track;
const sound = audioOf(Array.from({ length: 43 }, () => Buffer.alloc(5))).track;
const movie: Movie = { tracks: [pictures, sound], durationUs: 1_000_000 };

test("a range begins at the sync sample before", (t) => {
  const rows: Array<[number, number, number[]]> = [
    [0, 0, [0, 0]],
    [199_999, 0, [0, 0]],
    [200_000, 200_000, [5, 8]],
    [399_999, 200_000, [5, 8]],
    [999_999, 800_000, [20, 34]],
    [1e12, 800_000, [20, 34]],
  ];
  for (const [asked, startUs, samples] of rows) t.deepEqual(startAt(movie, asked), { startUs, samples }, String(asked));
  t.deepEqual(
    startAt({ ...movie, tracks: [sound] }, 199_999),
    { startUs: 199_999, samples: [8] },
    "sound begins anywhere",
  );
  t.is(startAt({ ...movie, tracks: [sound] }, 1e12).startUs, 1_000_000);
});

test("a range ends behind what is presented before its end", (t) => {
  t.is(endAt(pictures, 1e12), 25);
  t.is(endAt(pictures, 80_000), 2);
  t.is(endAt(pictures, 80_001), 3);
  t.is(endAt(pictures, 0), 0);
  t.is(endAt(sound, 1_000_000), 43);
});

test("times are converted exactly", (t) => {
  t.is(rescale(2 ** 50, 90_000, 1_000_000), Number((2n ** 50n * 1_000_000n) / 90_000n));
  t.is(rescale(-1, 44_100, 1_000_000), -23);
  t.is(rescale(44_100 * 10_000_000 + 1, 44_100, 90_000), 900_000_000_002);
});
