import { closeSync, openSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { Indexer, MediaError } from "../../../agent/media/index.js";
import { testDirectory } from "../../support/directory.js";
import { makeClip, openClip } from "./clip.js";
import { longFilm } from "./long_film.js";

const LONG = 100_000;

async function opened(t: ExecutionContext, path: string): Promise<{ fd: number; size: number }> {
  const file = await open(path);
  t.teardown(() => file.close());
  return { fd: file.fd, size: (await file.stat()).size };
}

test("an index that another thread has made is the same", async (t) => {
  const path = await makeClip(testDirectory(t), "film.mp4");
  const { movie, file, size } = await openClip(path);
  t.teardown(() => file.close());
  const made = await new Indexer().index(file.fd, size);
  t.deepEqual(made, movie);
  t.true(Buffer.isBuffer(made.tracks[0]?.kind === "h264" && made.tracks[0].sequenceSets[0]));
});

test("nobody waits for a long film but who asked for it", async (t) => {
  const path = join(testDirectory(t), "long.mp4");
  writeFileSync(path, longFilm(LONG));
  const { fd, size } = await opened(t, path);
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  const { tracks } = await new Indexer().index(fd, size);
  clearInterval(timer);
  t.is(tracks[0]?.samples.count, LONG);
  t.true(turns > 20, `the loop has made ${turns} turns meanwhile`);
});

test("what is no film, or cannot be read, is told apart", async (t) => {
  const path = join(testDirectory(t), "no.mp4");
  writeFileSync(path, "no film at all, nor any box of one");
  const { fd, size } = await opened(t, path);
  const indexer = new Indexer();
  const no = await t.throwsAsync(indexer.index(fd, size), { instanceOf: MediaError });
  t.like(no, { problem: "malformed", message: "the file has no movie box" });
  const closed = openSync(path, "r");
  closeSync(closed);
  const unreadable = await t.throwsAsync(indexer.index(closed, size));
  t.like(unreadable, { code: "CONTENT_UNAVAILABLE" });
  t.false(unreadable instanceof MediaError);
});

/** A thread that answers with its request's size, and does something else where that is 666. */
function threadThat(does: string): URL {
  return new URL(`data:text/javascript,
    import { parentPort } from "node:worker_threads";
    parentPort.on("message", async ({ size }) => {
      if (size === 666) { ${does} }
      parentPort.postMessage({ kind: "movie", movie: { tracks: [], durationUs: size } });
    });`);
}

const BAD = [
  { what: "takes too long", does: "for (;;);", message: "its index takes too long to make", timeMs: 2_000 },
  {
    what: "takes too much memory",
    does: "const list = []; for (;;) list.push(new Array(1_000).fill(list.length));",
    message: "its index takes too much memory to make",
    heapMb: 16,
  },
];

for (const { what, does, message, ...bounds } of BAD) {
  test(`a film whose index ${what} ends its thread, and the films behind it have another one`, async (t) => {
    const indexer = new Indexer({ thread: threadThat(does), ...bounds });
    t.is((await indexer.index(0, 1)).durationUs, 1);
    const bad = t.throwsAsync(indexer.index(0, 666), { instanceOf: MediaError });
    const [second, third] = await Promise.all([indexer.index(0, 2), indexer.index(0, 3)]);
    t.like(await bad, { problem: "too large", message });
    t.deepEqual([second.durationUs, third.durationUs], [2, 3]);
  });
}

test("a thread that ends by itself is no fault of the film's", async (t) => {
  const indexer = new Indexer({ thread: threadThat("process.exit(1);") });
  const error = await t.throwsAsync(indexer.index(0, 666));
  t.like(error, { code: "INTERNAL" });
  t.is((await indexer.index(0, 1)).durationUs, 1);
});

test("films that wait are bounded in number", async (t) => {
  const indexer = new Indexer({ thread: threadThat("") });
  const all = Array.from({ length: 1 + 1_024 }, (_, size) => indexer.index(0, size));
  t.like(await t.throwsAsync(indexer.index(0, 1)), { code: "LIMIT_REACHED" });
  t.is((await Promise.all(all)).length, 1 + 1_024);
});
