import "../../support/quiet.js";
import test from "ava";
import type { Found } from "../../../agent/content/index.js";
import { MediaError, type Movie } from "../../../agent/media/index.js";
import { SampleTable } from "../../../agent/media/samples.js";
import { Films } from "../../../agent/protocols/rtsp/films.js";
import { BatonError } from "../../../proto/errors.js";

const SAMPLES = 1_000;
/** Of one index, and a little more. */
const INDEX_BYTES = 40_000;

function movie(): Movie {
  const times = new Float64Array(SAMPLES);
  const columns = { offsets: times, sizes: new Uint32Array(SAMPLES), decodeTimes: times, presentationTimes: times };
  const samples = new SampleTable({ ...columns, syncs: new Uint8Array(SAMPLES), lastDuration: 1 });
  const sound = { kind: "aac" as const, config: Buffer.alloc(2), channels: 2, clockRate: 44_100, timescale: 44_100 };
  return { tracks: [{ ...sound, number: 1, samples }], durationUs: 1_000_000 };
}

/** Films with names that are numbers, in room for so many bytes of indexes. */
function scene(keptBytes: number) {
  /** Films whose index was made, in that order. */
  const made: number[] = [];
  let open = 0;
  const fileOf = (inode: number): Found["file"] => {
    open++;
    const identity = { device: 1n, inode: BigInt(inode), size: 1, mtimeNs: 0n, ctimeNs: 0n };
    return { fd: inode, size: 1, identity, close: () => void open-- };
  };
  const trouble = new Map<number, Error>();
  const films = new Films(
    {
      find: async ([name]) => ({ objectId: `/${name}`, validator: "sha256:1", file: fileOf(Number(name)) }),
      openObject: async ({ objectId }) => fileOf(Number(objectId.slice(1))),
      takeObject: async (objectId, fd) => ({ objectId, validator: `sha256:${fd}`, file: fileOf(fd) }),
      hold: ({ fd }) => fileOf(fd),
    },
    {
      index: async (fd) => {
        made.push(fd);
        const error = trouble.get(fd);
        if (error) throw error;
        return movie();
      },
    },
    keptBytes,
  );
  const find = (name: number) => films.find([String(name)]);
  const look = async (name: number) => (await find(name))?.close();
  return { films, made, trouble, find, look, open: () => open };
}

test("an index is made once for all who ask, and kept while there is room: the last used ones", async (t) => {
  const { films, made, look, open } = scene(2 * INDEX_BYTES);
  await Promise.all([look(1), look(1), films.again("/1", "sha256:1").then(({ close }) => close())]);
  await look(2);
  await look(1);
  t.deepEqual(made, [1, 2]);
  await look(3);
  await look(1);
  t.deepEqual(made, [1, 2, 3]);
  await look(2);
  t.deepEqual(made, [1, 2, 3, 2], "the one that nobody had asked for the longest");
  t.is(open(), 0);
});

test("an index in use is shared, whatever room there is", async (t) => {
  const { made, find, look, open } = scene(0);
  const film = await find(1);
  await look(1);
  t.deepEqual(made, [1]);
  film?.close();
  film?.close();
  t.is(open(), 0);
  await look(1);
  t.deepEqual(made, [1, 1]);
});

test("a film that another process had open is that very one, by the validator that its record has, if it has one", async (t) => {
  const { films, open } = scene(0);
  const [named, unnamed] = [await films.take("/1", "sha256:old", 7), await films.take("/1", "", 7)];
  t.deepEqual([named.validator, unnamed.validator], ["sha256:old", "sha256:7"]);
  const held = named.hold();
  for (const film of [named, unnamed]) film.close();
  t.is(open(), 1);
  held.close();
  t.is(open(), 0);
});

test("a film that cannot be indexed is not tried again and again; one that could not be read is", async (t) => {
  const { made, trouble, look, open } = scene(2 * INDEX_BYTES);
  trouble.set(1, new MediaError("too large", "its index takes too long to make"));
  trouble.set(2, new BatonError("CONTENT_UNAVAILABLE", "EIO"));
  for (let i = 0; i < 2; i++) {
    await t.throwsAsync(look(1), { instanceOf: MediaError });
    await t.throwsAsync(look(2), { message: "EIO" });
  }
  t.deepEqual(made, [1, 2, 2]);
  t.is(open(), 0);
});
