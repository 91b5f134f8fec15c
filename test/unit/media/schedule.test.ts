import test from "ava";
import fc from "fast-check";
import { beginningOf, type LanePosition, MediaError, Schedule } from "../../../agent/media/index.js";
import { laneOf, packetsOf, play, REPORTING } from "./playing.js";
import { audioOf, film, song, videoOf } from "./synthetic.js";

/** A range of a film with its sound. */
const range = fc.record({ film, song, startUs: fc.nat(200_000), payloadMax: fc.integer({ min: 64, max: 1_500 }) });

function scene({ film, song, startUs, payloadMax }: typeof range extends fc.Arbitrary<infer T> ? T : never) {
  const [video, audio] = [videoOf(film), audioOf(song)];
  const lanes = [video, audio].map(({ track }) => laneOf(track, { startUs, payloadMax }));
  return { lanes, reads: [video.read, audio.read] };
}

const REPORTS_OFTEN = { ...REPORTING, reportUs: 70_000 };

test("from any position on the bytes are the same, in whatever portions they are taken", async (t) => {
  await fc.assert(
    fc.asyncProperty(range, fc.nat(), fc.integer({ min: 1, max: 400_000 }), async (any, cut, step) => {
      const { lanes, reads } = scene(any);
      const { items, positions } = await play(lanes, reads, undefined, REPORTS_OFTEN);
      const at = cut % positions.length;
      const rest = await play(lanes, reads, positions[at], REPORTS_OFTEN, step);
      t.deepEqual(rest.items, items.slice(at));
    }),
    { numRuns: 60 },
  );
});

test("send times never fall, and a lane's numbers have no gap", async (t) => {
  await fc.assert(
    fc.asyncProperty(range, async (any) => {
      const { lanes, reads } = scene(any);
      const { items } = await play(lanes, reads, undefined, REPORTS_OFTEN);
      for (const [at, item] of items.entries()) {
        if (at > 0 && item.sendUs < items[at - 1]!.sendUs) throw new Error("out of order");
      }
      for (const [lane, { stream }] of lanes.entries()) {
        for (const [number, packet] of packetsOf(items, lane).entries()) {
          if (packet.readUInt16BE(2) !== stream.sequence(number)) throw new Error("a gap");
        }
        const reports = items.filter((item) => item.lane === lane && item.kind === "rtcp");
        if (reports.some(({ sendUs }, at) => sendUs !== at * 70_000)) throw new Error("a report at another time");
        for (const report of reports) {
          const before = packetsOf(items.slice(0, items.indexOf(report)), lane);
          const octets = before.reduce((sum, { length }) => sum + length - 12, 0);
          if (report.bytes.readUInt32BE(20) !== before.length || report.bytes.readUInt32BE(24) !== octets) {
            throw new Error("a report counts otherwise");
          }
        }
      }
    }),
    { numRuns: 60 },
  );
  t.pass();
});

test("a large sample is spread over its time, and a long one over no more than 40 ms", (t) => {
  const { track } = videoOf([[Buffer.alloc(2_000, 0x41)], [Buffer.alloc(10, 0x41)]]);
  const { stream } = laneOf(track, { startUs: -80_000 });
  t.deepEqual(
    [0, 1, 2, 3].map((fragment) => stream.sendUs(0, fragment, 4)),
    [0, 10_000, 20_000, 30_000],
  );
  t.is(stream.sampleUs(1), 40_000);
  const slow = { ...track, timescale: 128 };
  t.deepEqual(
    [0, 1].map((fragment) => laneOf(slow, { startUs: -8_000_000 }).stream.sendUs(0, fragment, 2)),
    [0, 20_000],
  );
});

test("without a sample's bytes nothing that might come later goes out", (t) => {
  const [video, audio] = [
    videoOf([[Buffer.from([0x65, 1])], [Buffer.from([0x41, 2])]]),
    audioOf([Buffer.alloc(9), Buffer.alloc(9)]),
  ];
  const lanes = [laneOf(video.track), laneOf(audio.track)];
  const schedule = new Schedule(lanes, lanes.map(beginningOf), REPORTING);
  t.deepEqual(schedule.due(1_000_000, 100), []);
  t.deepEqual(
    schedule.wanted(0).map(({ lane, sample }) => [lane, sample]),
    [
      [0, 0],
      [0, 1],
      [1, 0],
    ],
  );
  schedule.supply({ lane: 1, sample: 0 }, Buffer.alloc(9));
  t.deepEqual(schedule.due(1_000_000, 100), [], "the pictures come first");
  schedule.supply({ lane: 0, sample: 0 }, video.bytes.subarray(0, 6));
  t.deepEqual(
    schedule.due(1_000_000, 100).map(({ lane, kind }) => [lane, kind]),
    [
      [0, "rtcp"],
      [0, "rtp"],
      [0, "rtp"],
      [0, "rtp"],
    ],
  );
  t.is(schedule.nextUs, 0);
  t.false(schedule.ended);
  schedule.supply({ lane: 0, sample: 1 }, video.bytes.subarray(6));
  t.deepEqual(
    schedule.due(1_000_000, 3).map(({ lane, kind }) => [lane, kind]),
    [
      [0, "rtp"],
      [1, "rtcp"],
      [1, "rtp"],
    ],
  );
  schedule.supply({ lane: 1, sample: 1 }, Buffer.alloc(9));
  t.deepEqual(schedule.due(0, 100), []);
  t.is(schedule.nextUs, 23_219);
  t.is(schedule.due(23_219, 100).length, 1);
  t.true(schedule.ended);
  t.is(schedule.nextUs, undefined);
});

test("what comes before a sample that is none still goes out", (t) => {
  const video = videoOf([[Buffer.from([0x65, 1])], [Buffer.from([0x41, 2])]]);
  const lanes = [laneOf(video.track)];
  const schedule = new Schedule(lanes, lanes.map(beginningOf), REPORTING);
  schedule.supply({ lane: 0, sample: 0 }, video.bytes.subarray(0, 6));
  schedule.supply({ lane: 0, sample: 1 }, Buffer.alloc(6, 0xff));
  t.is(schedule.due(1e9, 100).length, 4, "a report, the parameter sets, the picture");
  t.is(schedule.nextUs, 0);
  for (let again = 0; again < 2; again++) {
    t.throws(() => schedule.due(1e9, 100), { instanceOf: MediaError, message: "a NAL unit is longer than its sample" });
  }
  t.throws(() => schedule.supply({ lane: 0, sample: 1 }, Buffer.alloc(5)), { instanceOf: MediaError });
});

test("little is wanted at a time, however large the samples", (t) => {
  const large = Array.from({ length: 100 }, (_, i) => [Buffer.alloc(i < 50 ? 10 : 1_500_000, 0x41)]);
  const lanes = [laneOf(videoOf(large).track)];
  t.is(new Schedule(lanes, lanes.map(beginningOf), REPORTING).wanted(1e9).length, 32);
  const late = [{ sample: 60, fragment: 0, packets: 0, octets: 0, reports: 0 }];
  t.is(new Schedule(lanes, late, REPORTING).wanted(1e9).length, 1);
});

test("another range goes on with the numbers and counts of the one before", async (t) => {
  const { track, read } = audioOf(Array.from({ length: 10 }, (_, i) => Buffer.alloc(50 + i)));
  const first = laneOf(track, {}, [0, 4]);
  const played = await play([first], [read]);
  const [sent] = played.positions.at(-1) as [LanePosition];
  const second = laneOf(track, { timestamp: 77, startUs: 100_000 }, [5, 10]);
  const { items } = await play([second], [read], [{ ...sent, sample: second.firstSample, fragment: 0, reports: 0 }]);
  t.is(items[0]?.bytes.readUInt32BE(20), 4, "the report");
  const [last, next] = [packetsOf(played.items, 0).at(-1), packetsOf(items, 0)[0]];
  t.is(next?.readUInt16BE(2), ((last?.readUInt16BE(2) ?? 0) + 1) & 0xffff);
});
