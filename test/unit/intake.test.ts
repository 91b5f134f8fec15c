import "../support/quiet.js";
import test from "ava";
import fc from "fast-check";
import { CommitMeter } from "../../agent/connection/commit_meter.js";
import { Intake, type IntakePort } from "../../agent/connection/intake.js";
import type { ApplicationLayer } from "../../agent/protocols/application.js";
import { BatonError } from "../../proto/errors.js";
import type { Spilled, Spills } from "../../proto/store/index.js";

const STREAM = Buffer.from(Array.from({ length: 2_000_000 }, (_, at) => (at * 31 + (at >> 8)) % 256));
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A stream whose acknowledgements a test gives. */
class FakeSpills {
  pieces: Spilled[] = [];
  waiting: Array<{ piece: Spilled; resolve: (sequence: number) => void; reject: (error: Error) => void }> = [];
  purged: Array<number | undefined> = [];
  /** How the next reads end, each after its first piece. */
  failing: Array<"STORE_UNAVAILABLE" | "NOT_FOUND"> = [];

  append(_id: string, offset: number, bytes: Buffer): Promise<number> {
    const piece = { offset, bytes: Buffer.from(bytes), sequence: 0, writtenAtMs: Date.now() };
    return new Promise((resolve, reject) => this.waiting.push({ piece, resolve, reject }));
  }
  async acknowledge(): Promise<void> {
    const next = this.waiting.shift();
    if (!next) return;
    next.piece.sequence = this.pieces.push(next.piece);
    next.resolve(next.piece.sequence);
    await turn();
  }
  async refuse(code: "STORE_FAILED" | "STORE_UNAVAILABLE"): Promise<void> {
    this.waiting.shift()?.reject(new BatonError(code, "refused"));
    await turn();
  }
  async *read(_id: string, from: number, to: number): AsyncGenerator<Spilled> {
    const failing = this.failing.shift();
    for (const { offset, bytes, ...rest } of this.pieces) {
      const part = bytes.subarray(Math.max(0, from - offset), to - offset);
      if (offset + bytes.length > from && offset < to) yield { offset: Math.max(offset, from), bytes: part, ...rest };
      if (failing) throw new BatonError(failing, "as the test wants it");
    }
  }
  async purge(_id: string, upTo?: number): Promise<void> {
    this.purged.push(upTo);
  }
}

type Part = ReturnType<Intake["part"]>;
const NOTHING: Part = { processed: 0, spilled: 0, consumed: 0, clientFinished: false, spool: Buffer.alloc(0) };

function scene(start = NOTHING, spills = new FakeSpills(), inputBytes = 65_536) {
  const seen: Buffer[] = [];
  const state = { ended: false, paused: false, letGo: 0, lost: "", over: false };
  const parts: Part[] = [];
  const application = {
    input: (chunk: Buffer) => void seen.push(chunk),
    inputEnd: () => {
      state.ended = true;
    },
    letGo: () => {
      state.letGo++;
      intake.processed(intake.input.taken);
    },
  } as Partial<ApplicationLayer> as ApplicationLayer;
  const port: IntakePort = {
    application,
    get isOver() {
      return state.over;
    },
    pauseInput: () => {
      state.paused = true;
    },
    resumeInput: () => {
      state.paused = false;
    },
    commit: () => {
      intake.clearTimer();
      parts.push(intake.part(false));
    },
    lost: (error) => {
      state.lost = error.message;
      state.over = true;
    },
  };
  const host = {
    spills: spills as unknown as Spills,
    limits: {
      ...{ inputBytes, bodyBytes: () => 1_000_000, recordBytes: 0 },
      ...{ connectionsPerClient: 1, halfOpenPerClient: 1 },
    },
    unprotected: false,
    writer: "s1/1",
    commits: new CommitMeter(() => {}),
  };
  const intake: Intake = new Intake(port, host, { id: "a", recorded: true, service: "http" }, start);
  return { intake, port, host, application, spills, state, parts, seen: () => Buffer.concat(seen) };
}

/** What a record has of the client's stream, and what is beside it, is that stream; and it is all of it up to `consumed`. */
function isTrue(part: Part, { pieces }: FakeSpills): boolean {
  const spoolAt = Math.max(part.processed, part.spilled);
  if (!part.spool.equals(STREAM.subarray(spoolAt, part.consumed))) return false;
  let at = part.processed;
  for (const { offset, bytes } of pieces) {
    if (!bytes.equals(STREAM.subarray(offset, offset + bytes.length))) return false;
    if (offset <= at) at = Math.max(at, offset + bytes.length);
  }
  return at >= part.spilled;
}

test("at every moment a record and what is beside it have the client's stream, and records never fall back", async (t) => {
  const kind = fc.constantFrom("receive", "receive", "take", "acknowledge", "use", "commit");
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(kind, fc.integer({ min: 1, max: 40_000 })), { maxLength: 60 }),
      async (steps) => {
        const { intake, spills, parts } = scene();
        const { input } = intake;
        for (const [what, amount] of steps) {
          if (what === "receive") intake.receive(STREAM.subarray(input.received, input.received + amount));
          else if (what === "take") intake.took(Math.min(input.received, input.taken + amount));
          else if (what === "use" && amount < 4_000)
            intake.processed(Math.min(input.received, input.processed + amount));
          else if (what === "acknowledge") await spills.acknowledge();
          else parts.push(intake.part(false));
          for (const part of parts) t.true(isTrue(part, spills));
          parts.reduce((before, part) => {
            t.true(part.consumed >= before.consumed);
            return part;
          }, NOTHING);
          t.true(isTrue(intake.part(true), spills));
          t.is(intake.part(true).consumed, input.received);
        }
        intake.clearTimer();
      },
    ),
    { numRuns: 60 },
  );
});

test("an upload is in its record as far as it is spilled, and all of it when that stands still", async (t) => {
  const { intake, spills, parts, state } = scene();
  intake.receive(STREAM.subarray(0, 20_000));
  intake.took(20_000);
  intake.receive(STREAM.subarray(20_000, 70_000));
  intake.took(70_000);
  t.is(spills.waiting.length, 1, "one piece is under way");
  t.deepEqual(
    parts.at(-1),
    { ...NOTHING, consumed: 20_000, spool: STREAM.subarray(0, 20_000) },
    "committed before it was taken",
  );
  t.true(state.paused, "what is held is bounded");
  await spills.acknowledge();
  t.like(parts.at(-1), { processed: 0, spilled: 20_000, consumed: 20_000 });
  t.is(spills.waiting.length, 1, "what came meanwhile is one piece");
  t.false(state.paused);
  await spills.acknowledge();
  t.like(parts.at(-1), { spilled: 70_000, consumed: 70_000 });
  intake.processed(70_000);
  intake.committed({ ...intake.part(false) } as Parameters<Intake["committed"]>[0]);
  t.deepEqual(spills.purged, [2]);
});

for (const between of [0, 100]) {
  test(`of bodies that follow on each other each goes when its answer is recorded, the next one being on its way (${between})`, async (t) => {
    const { intake, spills } = scene();
    const record = () => intake.committed(intake.part(false) as Parameters<Intake["committed"]>[0]);
    for (let body = 0; body < 3; body++) {
      const at = body * 30_000;
      intake.receive(STREAM.subarray(at, at + 30_000));
      if (body > 0) intake.processed(at + between);
      intake.took(at + 30_000);
      t.is(spills.waiting.length, 1);
      record();
      t.deepEqual(spills.purged, [1, 2].slice(0, body));
      await spills.acknowledge();
    }
    record();
    t.deepEqual(spills.purged, [1, 2], "this one is not answered");
    intake.processed(90_000);
    record();
    t.deepEqual(spills.purged, [1, 2, 3]);
    intake.clearTimer();
  });
}

test("the twin is given what was spilled, then the spool, no faster than it takes it, and the end", async (t) => {
  const spills = new FakeSpills();
  for (let at = 0; at < 300_000; at += 50_000) {
    spills.pieces.push({ offset: at, bytes: STREAM.subarray(at, at + 50_000), sequence: at, writtenAtMs: Date.now() });
  }
  const spool = STREAM.subarray(300_000, 301_000);
  const start = { processed: 1_000, spilled: 300_000, consumed: 301_001, clientFinished: true, spool };
  const { intake, state, seen } = scene(start, spills);
  intake.restore(spool);
  await turn();
  t.true(intake.isReplaying);
  t.true(state.paused, "the client waits");
  t.true(seen().length < 200_000, `${seen().length} bytes without any being taken`);
  while (intake.isReplaying) {
    intake.took(1_000 + seen().length);
    await turn();
  }
  t.deepEqual(seen(), STREAM.subarray(1_000, 301_000));
  t.true(state.ended);
  t.is(state.lost, "");
  t.is(intake.part(true).consumed, 301_001);
});

test("a store that is away while the twin reads from it is waited for; what is not in it is lost, and so is what a layer fails at", async (t) => {
  for (const [what, lost, waits] of [
    ["away", "", 2],
    ["not there", "as the test wants it", 1],
    ["fails", "a bug", 0],
  ] as const) {
    const spills = new FakeSpills();
    for (let at = 0; at < 60_000; at += 20_000) {
      spills.pieces.push({
        offset: at,
        bytes: STREAM.subarray(at, at + 20_000),
        sequence: at,
        writtenAtMs: Date.now(),
      });
    }
    const { intake, state, seen, host, application } = scene({ ...NOTHING, spilled: 60_000, consumed: 60_000 }, spills);
    if (what === "away") spills.failing = ["STORE_UNAVAILABLE", "STORE_UNAVAILABLE"];
    if (what === "not there") spills.failing = ["STORE_UNAVAILABLE", "NOT_FOUND"];
    if (what === "fails") {
      application.input = () => {
        throw new Error("a bug");
      };
    }
    intake.restore(Buffer.alloc(0));
    for (let turns = 0; turns < 20; turns++) await turn();
    if (what === "away") t.deepEqual(seen(), STREAM.subarray(0, 60_000), "each byte once");
    t.is(state.lost, lost);
    t.is(host.commits.replays.total, waits);
    t.is(intake.isReplaying, what !== "away", "whoever has lost it takes nothing of the client's");
  }
});

test("a piece whose outcome is not known is sent again; where the store does not take it the layer lets go", async (t) => {
  const { intake, host, spills, state } = scene();
  intake.receive(STREAM.subarray(0, 20_000));
  intake.took(20_000);
  await spills.refuse("STORE_UNAVAILABLE");
  t.is(spills.waiting.length, 1);
  t.is(state.letGo, 0);
  await spills.refuse("STORE_FAILED");
  t.is(state.letGo, 1);
  t.is(host.commits.spills.total, 1);
  intake.end(true);
  t.deepEqual(spills.purged, [undefined], "nothing is left behind");
});

test("what is more than a segment is committed soon, a segment in the time of a delayed ack, an upload at once", async (t) => {
  const committed: string[] = [];
  const begin = (name: string, ...sizes: number[]) => {
    const { intake, port } = scene();
    return new Promise<number>((resolve) => {
      port.commit = () => {
        intake.clearTimer();
        committed.push(name);
        resolve(intake.part(false).consumed);
      };
      for (const size of sizes) intake.receive(STREAM.subarray(0, size));
    });
  };
  const all = [begin("segment", 1_000), begin("grown", 1_000, 1_000), begin("more", 3_000), begin("upload", 5_000)];
  t.deepEqual(await Promise.all(all), [1_000, 2_000, 3_000, 5_000]);
  t.is(committed[0], "upload");
  t.is(committed[3], "segment");
});

test("the store is gone, and nothing need wait for it: what is on its way there is let go of, and all of the rest goes on", async (t) => {
  const { intake, host, spills, state, parts } = scene();
  intake.receive(STREAM.subarray(0, 20_000));
  intake.took(20_000);
  intake.receive(STREAM.subarray(20_000, 90_000));
  intake.took(85_000);
  t.is(spills.waiting.length, 1);
  t.true(state.paused, "nothing more will come, and nothing more be taken");
  host.unprotected = true;
  intake.lookAgain();
  t.is(state.letGo, 1);
  t.false(state.paused);
  t.like(intake.part(false), { processed: 85_000, consumed: 90_000 });
  intake.receive(STREAM.subarray(90_000, 100_000));
  t.like(parts.at(-1), { consumed: 100_000 }, "the next request is acknowledged");
  intake.took(95_000);
  await turn();
  t.is(state.letGo, 2);
  host.unprotected = false;
  await spills.acknowledge();
  t.like(intake.part(false), { processed: 95_000, consumed: 100_000 });
  intake.clearTimer();
});

test("a body that has been under way for so long that the store may drop its beginning is kept no longer", async (t) => {
  for (const hours of [11, 13]) {
    const spills = new FakeSpills();
    const writtenAtMs = Date.now() - hours * 3_600_000;
    spills.pieces.push({ offset: 0, bytes: STREAM.subarray(0, 30_000), sequence: 1, writtenAtMs });
    const { intake, state } = scene({ ...NOTHING, spilled: 30_000, consumed: 30_000 }, spills);
    intake.restore(Buffer.alloc(0));
    await turn();
    intake.took(30_000);
    await turn();
    intake.receive(STREAM.subarray(30_000, 60_000));
    intake.took(60_000);
    await turn();
    t.is(state.letGo > 0, hours > 12);
    t.is(spills.waiting.length, hours > 12 ? 0 : 1);
    intake.clearTimer();
  }
});

test("an upload goes on however little is read at once", async (t) => {
  const { intake, spills, state } = scene(NOTHING, new FakeSpills(), 4_096);
  for (let at = 0; at < 20_480; at += 4_096) {
    intake.receive(STREAM.subarray(at, at + 4_096));
    intake.took(at + 4_096);
    await spills.acknowledge();
    t.false(state.paused);
  }
  intake.clearTimer();
});
