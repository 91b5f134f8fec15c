import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { fragmentsOf, lengthOf } from "../../../agent/media/fragments.js";
import { MediaError, type Track } from "../../../agent/media/index.js";
import { unitsOf } from "../../../agent/media/units.js";
import { testDirectory } from "../../support/directory.js";
import { elementary, ffmpeg, makeClip, openClip } from "./clip.js";
import { laneOf, packetsOf, play } from "./playing.js";
import { adts, annexB, parsePacket, receiveAudio, receiveVideo } from "./receiver.js";
import { audioOf, film, song, videoOf } from "./synthetic.js";

const typeOf = (unit: Buffer) => unit.readUInt8(0) & 0x1f;
const hexWithoutSets = (units: Buffer[]) =>
  units.filter((unit) => typeOf(unit) !== 7 && typeOf(unit) !== 8).map((unit) => unit.toString("hex"));

test("what a receiver puts together is what another demuxer takes out of the file", async (t) => {
  const directory = testDirectory(t);
  const slices = ["-x264-params", "slices=4:open-gop=1", "-ac", "6", "-movflags", "faststart"];
  for (const [name, options] of Object.entries({ plain: [], slices })) {
    const path = await makeClip(directory, `${name}.mp4`, options);
    const prefix = join(directory, name);
    await ffmpeg(["-i", path, ...elementary(prefix)]);
    const { movie, read, file } = await openClip(path);
    for (const payloadMax of [100, 1_400]) {
      const lanes = movie.tracks.map((track) => laneOf(track, { payloadMax }));
      const { items } = await play(lanes, [read, read]);
      const pictures = receiveVideo(packetsOf(items, 0).map(parsePacket));
      const units = pictures.flatMap((picture) => picture.units);
      const theirs = annexB(readFileSync(`${prefix}.264`));
      t.deepEqual(hexWithoutSets(units), hexWithoutSets(theirs), name);
      const syncs = pictures.filter((picture) => picture.units.some((unit) => typeOf(unit) === 5));
      t.true(syncs.length >= 1);
      for (const { units } of syncs) t.deepEqual(units.slice(0, 2).map(typeOf), [7, 8], name);
      const sound = receiveAudio(packetsOf(items, 1).map(parsePacket)).flatMap((one) => one.units);
      t.deepEqual(sound.map(String), adts(readFileSync(`${prefix}.aac`)).map(String), name);
    }
    await file.close();
  }
});

test("timestamps are those of presentation, the order is that of decoding", async (t) => {
  const { movie, read, file } = await openClip(await makeClip(testDirectory(t), "a.mp4"));
  const { items } = await play(
    movie.tracks.map((track) => laneOf(track, { timestamp: 1_000 })),
    [read, read],
  );
  const times = receiveVideo(packetsOf(items, 0).map(parsePacket)).map(({ timestamp }) => timestamp - 1_000);
  t.notDeepEqual(
    times,
    times.toSorted((a, b) => a - b),
    "there are B-frames",
  );
  t.deepEqual(
    times.toSorted((a, b) => a - b),
    Array.from({ length: 50 }, (_, picture) => picture * 3_600),
  );
  const sound = receiveAudio(packetsOf(items, 1).map(parsePacket)).map(({ timestamp }) => (timestamp - 1_000) | 0);
  t.deepEqual(sound.slice(0, 4), [-1_024, 0, 1_024, 2_048], "what is cut off at the beginning comes before it");
  await file.close();
});

test("units, fragments and packets of any film", (t) => {
  fc.assert(
    fc.property(film, fc.integer({ min: 64, max: 1_500 }), (samples, payloadMax) => {
      const { track, bytes } = videoOf(samples);
      const { stream } = laneOf(track, { payloadMax });
      let number = 0;
      for (const [sample, units] of samples.entries()) {
        const data = bytes.subarray(
          track.samples.offset(sample),
          track.samples.offset(sample) + track.samples.size(sample),
        );
        const fragments = fragmentsOf(track, sample, data, payloadMax);
        const packets = fragments.map((fragment) => stream.packet(number++, sample, fragment, data));
        for (const [at, packet] of packets.entries()) {
          if (packet.length > 12 + payloadMax) throw new Error("too large");
          if (packet.length !== 12 + lengthOf(fragments[at] as (typeof fragments)[number])) throw new Error("length");
        }
        const received = receiveVideo(packets.map(parsePacket)).flatMap((one) => one.units);
        const sent = units.filter(({ length }) => length > 0);
        const expected = track.samples.isSync(sample) && sent.length > 0 ? withSets(track, sent) : sent;
        if (Buffer.compare(Buffer.concat(received), Buffer.concat(expected)) !== 0) throw new Error("other bytes");
        if (received.length !== expected.length) throw new Error("other units");
      }
    }),
  );
  t.pass();
});

function withSets(track: Track, units: Buffer[]): Buffer[] {
  if (track.kind !== "h264") return units;
  const at = units[0]?.[0] === 0x09 ? 1 : 0;
  return [...units.slice(0, at), ...track.sequenceSets, ...track.pictureSets, ...units.slice(at)];
}

test("a sample that has parameter sets gets no others", (t) => {
  const own = [Buffer.from([0x67, 1, 2, 3]), Buffer.from([0x68, 1]), Buffer.from([0x65, 7])];
  const { track, bytes } = videoOf([own]);
  t.is(fragmentsOf(track, 0, bytes, 500).length, 3);
});

test("any song", (t) => {
  fc.assert(
    fc.property(song, fc.integer({ min: 64, max: 1_500 }), (samples, payloadMax) => {
      const { track } = audioOf(samples);
      const { stream } = laneOf(track, { payloadMax });
      let number = 0;
      const packets = samples.flatMap((data, sample) =>
        fragmentsOf(track, sample, data, payloadMax).map((fragment) => stream.packet(number++, sample, fragment, data)),
      );
      if (packets.some(({ length }) => length > 12 + payloadMax)) throw new Error("too large");
      const received = receiveAudio(packets.map(parsePacket)).map(({ units }) => units[0]?.toString("hex"));
      const sent = samples.filter(({ length }) => length > 0).map((data) => data.toString("hex"));
      if (JSON.stringify(received) !== JSON.stringify(sent)) throw new Error("other bytes");
    }),
  );
  t.pass();
});

test("a sample that is none is refused", (t) => {
  const rows: Array<[string, RegExp]> = [
    ["000000", /within a NAL unit's length/],
    ["00000002 65", /longer than its sample/],
    ["ffffffff 65", /longer than its sample/],
    ["00000001 65 00", /within a NAL unit's length/],
    ["00000001 7c", /type 28 cannot be sent/],
    ["00000001 40", /type 0 cannot be sent/],
    ["00000001 09".repeat(5_000), /over 4096 NAL units/],
  ];
  for (const [hex, message] of rows) {
    t.throws(
      () => unitsOf(Buffer.from(hex.replaceAll(" ", ""), "hex"), 4),
      { instanceOf: MediaError, message },
      hex.slice(0, 20),
    );
  }
  t.deepEqual(unitsOf(Buffer.alloc(0), 4), []);
  t.deepEqual(unitsOf(Buffer.from("00000000", "hex"), 4), [], "an empty unit");
  t.deepEqual(unitsOf(Buffer.from("0265aa", "hex"), 1), [{ offset: 1, length: 2, header: 0x65 }]);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), fc.constantFrom(1, 2, 4), (bytes, lengthSize) => {
      try {
        unitsOf(Buffer.from(bytes), lengthSize);
      } catch (error) {
        if (!(error instanceof MediaError)) throw error;
      }
    }),
  );
});

test("numbers on the wire wrap, the true ones do not", (t) => {
  const { track } = videoOf([[Buffer.from([0x41])]]);
  const { stream } = laneOf(track, { sequence: 65_535, timestamp: 0xffffffff, startUs: 0 });
  t.is(stream.sequence(0), 65_535);
  t.is(stream.sequence(1), 0);
  t.is(stream.sequence(2 ** 40), 65_535);
  t.is(stream.timestampAt(0), 0xffffffff);
  t.is(stream.timestampAt(1_000_000), 89_999);
  t.is(laneOf(track, { timestamp: 5, startUs: 2_000_000 }).stream.timestampAt(-1_000_000), 2 ** 32 + 5 - 90_000);
});
