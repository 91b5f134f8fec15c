import test from "ava";
import fc from "fast-check";
import type { LeaseHolder } from "../../../agent/supervisor/lease.js";
import type { Lease } from "../../../proto/store/index.js";
import { World } from "./_world.js";

const ms = 1_000_000;
const never = new AbortController().signal;

async function taken(world: World, holder: LeaseHolder, withinMs = 50): Promise<number> {
  let incarnation = 0;
  void holder.take(never).then((value) => {
    incarnation = value;
  });
  await world.run(withinMs);
  return incarnation;
}

const alive = (incarnation: number, boot = "here"): Lease => ({
  server: "s1",
  incarnation,
  state: "alive",
  renewal: 0,
  boot,
});

test("taken, renewed and never interrupted while everything works", async (t) => {
  const world = new World();
  const holder = world.holder();
  t.is(await taken(world, holder, 5), 1);
  t.is(holder.state, "held");
  for (let i = 0; i < 1_000; i++) {
    await world.run(1);
    t.true(world.passes, `at ${world.now / ms} ms`);
  }
  const renewals = world.history.length;
  t.true(renewals >= 38 && renewals <= 41, `${renewals} renewals in a second`);
  t.deepEqual(world.said, []);
});

test("the map counts from the instant of sending, not from the acknowledgement", async (t) => {
  const world = new World();
  world.fate = () => ({ there: 30, back: 40, lost: false });
  const holder = world.holder();
  await taken(world, holder, 71);
  const first = world.writes.find((write) => write.untilNs > 0n);
  t.is(first?.at, 70.4 * ms);
  t.is(first?.untilNs, BigInt(100.4 * ms), "sent at 0.4 ms, after the read");
});

test("a new incarnation is above the store's and above the guard's", async (t) => {
  const world = new World();
  world.set({ ...alive(4), state: "fenced" }, 0);
  t.is(await taken(world, world.holder({ incarnationFloor: 2 })), 5);
  const other = new World();
  other.set({ ...alive(4), state: "dead" }, 0);
  t.is(await taken(other, other.holder({ incarnationFloor: 9 })), 10);
});

test("the map is fenced under the new incarnation before the store hears of it", async (t) => {
  const world = new World();
  world.set(alive(4), 0);
  const holder = world.holder();
  world.onStored = ({ lease }) => {
    if (lease.incarnation === 5)
      t.deepEqual({ ...world.map }, { at: world.now - 0.2 * ms, untilNs: 0n, incarnation: 5, unfenced: false });
  };
  t.is(await taken(world, holder, 2), 5);
  t.plan(2);
});

test("another machine's lease is taken only after it has stood still for its whole duration", async (t) => {
  const world = new World();
  world.set(alive(4, "elsewhere"), 0);
  const holder = world.holder();
  let revision = 1;
  const renew = () => {
    revision = world.set({ ...alive(4, "elsewhere"), renewal: revision }, revision) ?? revision;
    if (world.now < 1_000 * ms) world.at(25, renew);
  };
  renew();
  t.is(await taken(world, holder, 1_050), 0);
  t.regex(world.said[0] ?? "", /two agents have the same id/);
  await world.run(400);
  t.is(holder.state, "held");
  t.true((world.history.at(-1)?.lease.incarnation ?? 0) === 5);
});

test("fence: zero at once, the store told, late acknowledgements without effect", async (t) => {
  const world = new World();
  const holder = world.holder();
  await taken(world, holder, 10);
  world.fate = () => ({ there: 5, back: 20, lost: false });
  await world.run(22); // a renewal is under way now
  t.true(world.passes);
  const fenced = holder.fence();
  t.false(world.passes, "in that very call");
  const before = world.writes.length;
  await world.run(100);
  await fenced;
  t.is(world.writes.length, before, "the acknowledgement that came later wrote nothing");
  t.is(world.document?.lease.state, "fenced");
  t.is(world.document?.lease.incarnation, 1);
  t.is(holder.state, "none");
  t.is(await taken(world, holder, 100), 2);
  t.true(world.passes);
});

test("declared dead: fenced, and said", async (t) => {
  const world = new World();
  const holder = world.holder();
  await taken(world, holder, 10);
  world.set({ ...alive(1), state: "dead" }, world.document?.revision ?? 0);
  await world.run(30);
  t.false(world.passes);
  t.is(holder.state, "none");
  t.regex(world.said[0] ?? "", /lost: .*incarnation 1 is dead/);
  t.is(await taken(world, holder), 2);
});

test("an answer that was lost is not a lost lease", async (t) => {
  const world = new World();
  const holder = world.holder();
  await taken(world, holder, 10);
  world.fate = () => ({ there: 0.2, back: 0.2, lost: true });
  await world.run(30);
  world.fate = () => ({ there: 0.2, back: 0.2, lost: false });
  await world.run(2_000);
  t.is(holder.state, "held");
  t.true(world.passes);
  t.deepEqual(world.said, ["stalled", "goes on"]);
  t.is(holder.incarnation, 1);
});

test("stopped past the lease: silent by itself; woken after being declared dead: fenced before anything else", async (t) => {
  const world = new World();
  const holder = world.holder();
  await taken(world, holder, 10);
  world.stopProcess(10_000);
  await world.run(150);
  t.false(world.passes);
  world.set({ ...alive(1), state: "dead" }, world.document?.revision ?? 0);
  const writes = world.writes.length;
  await world.run(10_000);
  t.true(world.writes.slice(writes).every((write) => write.untilNs <= BigInt(Math.round(write.at)) && !write.unfenced));
  t.is(holder.state, "none");
});

test("stopped and not declared dead: it goes on under the same incarnation", async (t) => {
  const world = new World();
  const holder = world.holder();
  await taken(world, holder, 10);
  world.stopProcess(5_000);
  await world.run(5_100);
  t.true(world.passes);
  t.is(holder.incarnation, 1);
});

test("store gone, policy stall: everything pauses and goes on", async (t) => {
  const world = new World();
  const holder = world.holder();
  await taken(world, holder, 10);
  world.storeUp = false;
  world.connected = false;
  await world.run(3_000);
  t.false(world.passes);
  t.deepEqual(world.said, ["stalled"]);
  world.storeUp = true;
  world.connected = true;
  await world.run(1_500);
  t.true(world.passes);
  t.is(holder.incarnation, 1);
  t.deepEqual(world.said, ["stalled", "goes on"]);
});

test("store gone, policy serve-unprotected: unfenced after its time, withdrawn by the first renewal", async (t) => {
  const world = new World();
  const holder = world.holder({ unprotectedAfterMs: 500 });
  await taken(world, holder, 10);
  world.storeUp = false;
  world.connected = false;
  await world.run(400);
  t.false(world.passes);
  await world.run(300);
  t.true(world.map?.unfenced);
  world.storeUp = true;
  world.connected = true;
  await world.run(1_500);
  t.false(world.map?.unfenced);
  t.true(world.passes);
  t.deepEqual(world.said, ["stalled", "unprotected", "protected"]);
});

test("serve-unprotected: a process that was stopped does not take that for a missing store", async (t) => {
  const world = new World();
  const holder = world.holder({ unprotectedAfterMs: 500 });
  await taken(world, holder, 10);
  world.stopProcess(60_000);
  world.connected = false; // what it would find on waking
  world.at(60_150, () => {
    world.connected = true;
  });
  await world.run(61_000);
  t.false(world.writes.some((write) => write.unfenced));
});

test("fence withdraws serve-unprotected", async (t) => {
  const world = new World();
  const holder = world.holder({ unprotectedAfterMs: 500 });
  await taken(world, holder, 10);
  world.storeUp = false;
  world.connected = false;
  await world.run(1_000);
  t.true(world.passes);
  void holder.fence();
  t.false(world.passes);
  await world.run(10_000);
  t.false(world.passes);
  t.is(holder.state, "none");
});

test("released and inherited: one incarnation, no gap, and the first holder writes nothing any more", async (t) => {
  for (const inFlight of [false, true]) {
    const world = new World();
    const holder = world.holder();
    await taken(world, holder, 10);
    world.fate = () => ({ there: 2, back: 2, lost: false });
    await world.run(inFlight ? 20 : 24); // renewals leave at 25 ms steps from 0.4 ms on
    if (inFlight) await world.run(6.5);
    const lease = holder.release();
    t.is(lease?.incarnation, 1);
    const next = world.holder();
    const before = world.writes.length;
    await world.run(30);
    t.is(world.writes.length, before, "between the two nobody writes");
    t.true(world.passes, "30 ms are well inside the lease");
    next.inherit(lease!);
    void holder.fence();
    for (let i = 0; i < 500; i++) {
      await world.run(1);
      t.true(world.passes, `at ${world.now / ms} ms`);
    }
    t.is(next.state, "held");
    t.is(world.map?.incarnation, 1);
    t.deepEqual(world.said, []);
  }
});

test("nothing is released that is not held, and what was declared dead meanwhile is not inherited for long", async (t) => {
  const world = new World();
  const holder = world.holder();
  t.is(holder.release(), undefined);
  await taken(world, holder, 10);
  const lease = holder.release()!;
  t.is(holder.release(), undefined);
  world.set({ ...alive(1), state: "dead" }, world.document?.revision ?? 0);
  await world.run(150);
  t.false(world.passes, "it has run out by itself");
  const next = world.holder();
  next.inherit(lease);
  await world.run(5);
  t.false(world.passes);
  t.regex(world.said.join(), /lost: .*incarnation 1 is dead/);
  t.is(await taken(world, next), 2);
});

/** What goes wrong in one run, as plain data so that fast-check can shrink it. */
const troubles = fc.record({
  there: fc.array(fc.integer({ min: 0, max: 300 }), { minLength: 1, maxLength: 20 }), // tenths of ms, mostly small
  back: fc.array(fc.integer({ min: 0, max: 1_500 }), { minLength: 1, maxLength: 20 }),
  lost: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 20 }),
  stops: fc.array(fc.record({ at: fc.integer({ min: 0, max: 3_000 }), for: fc.integer({ min: 1, max: 800 }) }), {
    maxLength: 4,
  }),
  outages: fc.array(fc.record({ at: fc.integer({ min: 0, max: 3_000 }), for: fc.integer({ min: 1, max: 600 }) }), {
    maxLength: 3,
  }),
  /** One process hands the lease to the next, which has it after so many ms, or only when it has run out. */
  handovers: fc.array(fc.record({ at: fc.integer({ min: 0, max: 3_000 }), gap: fc.integer({ min: 0, max: 150 }) }), {
    maxLength: 4,
  }),
  deaths: fc.array(fc.integer({ min: 0, max: 3_000 }), { maxLength: 4 }),
  observedAfter: fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 10 }),
});

test("whatever is delayed, lost, stopped or killed: nothing passes once a controller may believe in the death", async (t) => {
  let declared = 0;
  let fenced = 0;
  let handedOver = 0;
  await fc.assert(
    fc.asyncProperty(troubles, async (trouble) => {
      const world = new World();
      let n = 0;
      const pick = (list: number[]) => list[n++ % list.length] ?? 0;
      world.fate = () => ({
        there: pick(trouble.there) / 10,
        back: pick(trouble.back) / 10,
        lost: pick(trouble.lost) === 0,
      });
      let holder = world.holder();
      let between = false;

      // The controller: what it has observed, and from when on it believes that an incarnation is silent.
      const silentFrom = new Map<number, number>();
      let observed: { revision: number; lease: Lease; at: number } | undefined;
      world.onStored = ({ lease, revision }) => {
        world.at(pick(trouble.observedAfter) / 10, () => {
          if (revision < (observed?.revision ?? 0)) return;
          observed = { revision, lease, at: world.now };
          if (lease.state === "fenced") {
            fenced++;
            silentFrom.set(lease.incarnation, world.now);
          }
        });
      };
      const judge = () => {
        if (observed?.lease.state === "alive" && world.now - observed.at >= 100 * ms && world.storeUp) {
          const { lease, at, revision } = observed;
          const dead = world.set({ ...lease, state: "dead" }, revision);
          if (dead !== undefined) {
            declared++;
            silentFrom.set(lease.incarnation, Math.max(world.now, at + 105 * ms));
          }
        }
        world.at(3, judge);
      };
      judge();

      const check = () => {
        const value = world.map;
        if (value === undefined || !world.passes) return;
        for (const [incarnation, from] of silentFrom) {
          if (incarnation === value.incarnation && world.now >= from) {
            throw new Error(
              `incarnation ${incarnation} passes at ${world.now / ms} ms, believed silent from ${from / ms} ms`,
            );
          }
        }
      };
      world.onWrite = check;
      const watch = () => {
        check();
        world.at(0.5, watch);
      };
      watch();

      // The supervisor: takes the lease again whenever it has none; deaths are its worker's.
      const supervise = () => {
        if (holder.state === "none" && !between) void holder.take(never);
        world.inside(7, supervise);
      };
      supervise();
      for (const at of trouble.deaths) world.at(at, () => world.inside(0, () => void holder.fence()));
      const handOver = (gap: number) => {
        const lease = holder.release();
        if (!lease) return;
        const former = holder;
        holder = world.holder();
        between = true;
        world.at(gap, () => {
          between = false;
          holder.inherit(lease);
          void former.fence();
          handedOver++;
        });
      };
      for (const { at, gap } of trouble.handovers) world.at(at, () => world.inside(0, () => handOver(gap)));
      for (const stop of trouble.stops) world.at(stop.at, () => world.stopProcess(stop.for));
      for (const outage of trouble.outages) {
        world.at(outage.at, () => {
          world.storeUp = false;
          world.connected = false;
          world.at(outage.for, () => {
            world.storeUp = true;
            world.connected = true;
          });
        });
      }
      await world.run(4_000);
      // Everything is well again: it comes back by itself.
      world.fate = () => ({ there: 0.2, back: 0.2, lost: false });
      await world.run(2_500);
      if (!world.passes) throw new Error(`still silent after everything has recovered, state ${holder.state}`);
      const incarnations = world.history.map((entry) => entry.lease.incarnation);
      if (!incarnations.every((value, i) => i === 0 || value >= (incarnations[i - 1] ?? 0)))
        throw new Error("incarnation fell");
    }),
    { numRuns: 60 },
  );
  t.true(declared > 10 && fenced > 0 && handedOver > 10, `declared ${declared}, fenced ${fenced}, ${handedOver}`);
});
