import test from "ava";
import fc from "fast-check";
import {
  type Answer,
  Comparison,
  compareAnswer,
  type Expectation,
  earliestClock,
  FLOOR_WINDOW,
  type Probe,
  type Verdict,
} from "../../agent/restore/compare.js";
import { add, toSequence } from "../../proto/sequence.js";
import { exampleRecord } from "../support/record.js";

const base: Expectation = {
  clientIsn: 4_294_967_000,
  serverIsn: 4_294_967_000, // the stream wraps at offset 295
  floor: 200,
  tail: 10_001,
  finOffset: 10_000,
  consumed: 289,
  window: 1_000,
  timestamps: true,
  earliestClock: 940_000,
  nonce: false,
};
const next = toSequence(base.clientIsn, base.consumed);
const behind = add(next, -2);
const probe: Probe = { count: 1, tsval: 1_001_500 };

function answer(position: number, change: Partial<Answer> = {}, expected: Expectation = base): Answer {
  return {
    seq: toSequence(expected.clientIsn, expected.consumed),
    ack: toSequence(expected.serverIsn, position),
    window: 500,
    payload: 0,
    hasTimestamps: true,
    tsval: 77,
    tsecr: probe.tsval,
    flags: 0x10,
    ...change,
  };
}

function kindOf(verdict: Verdict): string {
  if (verdict.kind === "doubtful") return `doubtful: ${kindOf(verdict.says)}`;
  return "reason" in verdict ? `${verdict.kind}: ${verdict.reason}` : verdict.kind;
}

const rows: Array<[string, Answer, Partial<Expectation>, string]> = [
  ["at the floor", answer(200), {}, "match"],
  ["past the wrap", answer(5000), {}, "match"],
  ["everything but the FIN", answer(10_000), {}, "match"],
  ["the FIN too", answer(10_001), {}, "finished"],
  ["behind the FIN", answer(10_002), {}, "outside: acknowledgement beyond the output"],
  ["the end of a record without FIN", answer(10_000), { finOffset: undefined, tail: 10_000 }, "match"],
  [
    "one past a record without FIN",
    answer(10_001),
    { finOffset: undefined, tail: 10_000 },
    "outside: acknowledgement beyond the output",
  ],
  ["one below the floor", answer(199), {}, "outside: acknowledgement below the floor"],
  ["2^29 past the floor", answer(200 + FLOOR_WINDOW), { finOffset: undefined, tail: 2 ** 40 }, "match"],
  [
    "further",
    answer(201 + FLOOR_WINDOW),
    { finOffset: undefined, tail: 2 ** 40 },
    "outside: acknowledgement too far past the floor",
  ],
  ["a byte of new data sent", answer(200, { seq: 4_294_967_291 }), {}, "match"],
  ["a window of new data sent", answer(200, { seq: add(next, 2 ** 30) }), {}, "match"],
  [
    "more than any window",
    answer(200, { seq: add(next, 2 ** 30 + 1) }),
    {},
    "ignore: sequence number beyond any window",
  ],
  ["a retransmission", answer(200, { seq: behind, payload: 1 }), {}, "ignore: retransmission"],
  ["a retransmission that would not fit", answer(10, { seq: behind, payload: 1 }), {}, "ignore: retransmission"],
  ["a FIN again", answer(200, { seq: behind, flags: 0x11 }), {}, "ignore: retransmission"],
  ["where a shut window ends", answer(5000, { seq: behind, window: 0 }), {}, "doubtful: match"],
  ["a window's size behind", answer(5000, { seq: add(next, -1_000) }), {}, "doubtful: match"],
  ["further behind", answer(5000, { seq: add(next, -1_001) }), {}, "ignore: sequence number beyond any window"],
  ["from there, the FIN too", answer(10_001, { seq: behind }), {}, "doubtful: finished"],
  [
    "from there, below the floor",
    answer(199, { seq: behind }),
    {},
    "doubtful: outside: acknowledgement below the floor",
  ],
  [
    "from there, not the nonce",
    answer(200, { seq: behind, tsecr: 941_000 }),
    { nonce: true },
    "ignore: the nonce is not echoed",
  ],
  ["no ACK", answer(200, { flags: 0 }), {}, "ignore: no ACK"],
  ["SYN", answer(200, { flags: 0x02 }), {}, "ignore: SYN"],
  ["SYN and ACK", answer(200, { flags: 0x12 }), {}, "ignore: SYN"],
  ["an exact RST", answer(0, { flags: 0x04, ack: 0, hasTimestamps: false }), {}, "gone"],
  ["an exact RST with ACK", answer(200, { flags: 0x14 }), {}, "gone"],
  ["an RST in the window", answer(200, { flags: 0x04, seq: add(next, 1) }), {}, "ignore: inexact RST"],
  ["an RST below", answer(200, { flags: 0x04, seq: add(next, -1) }), {}, "ignore: inexact RST"],
  ["no timestamps", answer(200, { hasTimestamps: false }), {}, "ignore: no timestamps"],
  ["no timestamps negotiated", answer(200, { hasTimestamps: false }), { timestamps: false }, "match"],
  ["an echo of the dead server", answer(200, { tsecr: 940_000 }), {}, "match"],
  ["an echo from before the birth", answer(200, { tsecr: 939_999 }), {}, "ignore: implausible timestamp echo"],
  ["an echo of a dead server whose clock was ahead", answer(200, { tsecr: probe.tsval + 60_000 }), {}, "match"],
  ["an echo of the future", answer(200, { tsecr: probe.tsval + 60_001 }), {}, "ignore: implausible timestamp echo"],
  ["any echo, once the clock went round", answer(200, { tsecr: 5 }), { earliestClock: undefined }, "match"],
  ["any echo, when it goes round just now", answer(200, { tsecr: 5 }), { earliestClock: probe.tsval + 1 }, "match"],
  ["the nonce", answer(200), { nonce: true }, "match"],
  ["not the nonce", answer(200, { tsecr: probe.tsval - 1 }), { nonce: true }, "ignore: the nonce is not echoed"],
  ["no way to echo it", answer(200), { nonce: true, timestamps: false }, "ignore: the nonce is not echoed"],
];

for (const [what, packet, change, expected] of rows) {
  test(what, (t) => {
    t.is(kindOf(compareAnswer({ ...base, ...change }, packet, probe)), expected);
  });
}

test("a match says where, and whether it answers the last probe", (t) => {
  t.deepEqual(compareAnswer(base, answer(5000), probe), { kind: "match", position: 5000, echoed: true });
  t.deepEqual(compareAnswer(base, answer(5000, { tsecr: probe.tsval - 1 }), probe), {
    kind: "match",
    position: 5000,
    echoed: false,
  });
  t.like(compareAnswer({ ...base, timestamps: false }, answer(5000), probe), { echoed: false });
});

test("before the first probe nothing is outside, refused or gone", (t) => {
  const none = { count: 0, tsval: probe.tsval };
  t.is(compareAnswer(base, answer(10_005), none).kind, "ignore");
  t.is(compareAnswer(base, answer(0, { flags: 0x04 }), none).kind, "ignore");
  t.is(compareAnswer(base, answer(300), none).kind, "match");
});

test("refused takes the same answer to two probes", (t) => {
  const comparison = new Comparison(base);
  const said = (position: number, count: number, change: Partial<Answer> = {}) =>
    comparison.compare(answer(position, change), { ...probe, count });
  const first = { kind: "outside", reason: "acknowledgement beyond the output", final: false };
  t.deepEqual(said(10_005, 1), first as Verdict);
  t.deepEqual(said(10_005, 1), first as Verdict, "twice to one probe");
  t.deepEqual(said(10_006, 2), first as Verdict, "another answer");
  t.deepEqual(said(10_006, 2), first as Verdict);
  t.is(said(10_006, 3, { seq: behind, payload: 1 }).kind, "ignore");
  t.deepEqual(said(10_006, 3), { ...first, final: true } as Verdict);
});

test("what an old packet may say counts when it is said again", (t) => {
  const comparison = new Comparison(base);
  const said = (position: number, count: number, change: Partial<Answer> = {}) =>
    kindOf(comparison.compare(answer(position, { seq: behind, ...change }), { ...probe, count }));
  t.is(said(5000, 1), "doubtful: match");
  t.is(said(5000, 1), "doubtful: match", "twice to one probe");
  t.is(said(5000, 2, { seq: add(next, -3) }), "doubtful: match", "from another place");
  t.is(said(5000, 3), "doubtful: match");
  t.is(said(5001, 4), "doubtful: match", "another answer");
  t.is(said(5001, 5), "match");
  const refused = new Comparison(base);
  const beyond = answer(10_005, { seq: behind });
  t.is(refused.compare(beyond, probe).kind, "doubtful");
  t.like(refused.compare(beyond, { ...probe, count: 2 }), { kind: "outside", final: true });
});

test("forged packets do not keep the true answer out", (t) => {
  const comparison = new Comparison(base);
  for (const position of [10_005, 0, 50_000, 10_005]) comparison.compare(answer(position), probe);
  comparison.compare(answer(10_005, { tsecr: 1 }), { ...probe, count: 2 });
  t.like(comparison.compare(answer(5000), { ...probe, count: 2 }), { kind: "match", position: 5000 });
});

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });

test("whatever the numbers: inside matches exactly there, outside never does", (t) => {
  const scene = fc.record({
    serverIsn: u32,
    clientIsn: u32,
    consumed: fc.nat(2 ** 45),
    clock: u32,
    floor: fc.nat(2 ** 45),
    promised: fc.nat(2 ** 31 - 2),
    fin: fc.boolean(),
    distance: fc.oneof(fc.integer({ min: -(2 ** 31) + 1, max: 2 ** 31 - 1 }), fc.integer({ min: -3, max: 3 })),
    fromEnd: fc.boolean(),
    elapsed: fc.nat(100_000),
    echoAge: fc.nat(100_000),
    ahead: fc.integer({ min: -(2 ** 29), max: 2 ** 30 }),
  });
  const seen: Record<string, number> = {};
  fc.assert(
    fc.property(scene, (s) => {
      const expected: Expectation = {
        serverIsn: s.serverIsn,
        clientIsn: s.clientIsn,
        floor: s.floor,
        tail: s.floor + s.promised + (s.fin ? 1 : 0),
        finOffset: s.fin ? s.floor + s.promised : undefined,
        consumed: s.consumed,
        window: 2 ** 29,
        timestamps: true,
        earliestClock: add(s.clock, -100_000),
        nonce: false,
      };
      const offset = (s.fromEnd ? s.promised : 0) + s.distance;
      fc.pre(Math.abs(offset) < 2 ** 31);
      const position = s.floor + offset;
      const sentProbe = { count: 1, tsval: add(s.clock, s.elapsed) };
      const packet = answer(
        position,
        { seq: add(toSequence(s.clientIsn, s.consumed), s.ahead), tsecr: add(sentProbe.tsval, -s.echoAge) },
        expected,
      );
      const said = compareAnswer(expected, packet, sentProbe);
      if ((said.kind === "doubtful") !== s.ahead < 0) return false;
      const verdict = said.kind === "doubtful" ? said.says : said;
      seen[verdict.kind] = (seen[verdict.kind] ?? 0) + 1;
      if (offset < 0 || offset > FLOOR_WINDOW) return verdict.kind === "outside";
      if (offset <= s.promised) return verdict.kind === "match" && verdict.position === position;
      return verdict.kind === (s.fin && offset === s.promised + 1 ? "finished" : "outside");
    }),
    { numRuns: 5000 },
  );
  t.true((seen.match ?? 0) > 100 && (seen.outside ?? 0) > 100 && (seen.finished ?? 0) > 10, JSON.stringify(seen));
});

test("the clock at a connection's birth", (t) => {
  const record = exampleRecord(); // 0.123456 s old
  t.is(earliestClock(record), 123_456_789 - 60_124);
  t.is(earliestClock({ ...record, tcp: { ...record.tcp, timestampClock: 5 } }), 2 ** 32 + 5 - 60_124, "wraps");
  const usec = { ...record, tcp: { ...record.tcp, timestampUsec: true } };
  t.is(earliestClock(usec), 123_456_789 - 60_123_456);
  t.is(earliestClock({ ...usec, bornAtUs: record.takenAtUs - 2 ** 31 }), undefined);
});
