import test from "ava";
import fc from "fast-check";
import { Detector } from "../../../controller/membership/detector.js";
import { Cluster } from "./_cluster.js";

async function three(): Promise<Cluster> {
  const cluster = new Cluster();
  for (const server of ["s1", "s2", "s3"]) cluster.start(server);
  await cluster.run(1);
  cluster.detector.caughtUp();
  await cluster.run(400);
  return cluster;
}

test("renewing servers are alive, each said once", async (t) => {
  const cluster = await three();
  await cluster.run(5_000);
  t.deepEqual(cluster.lines().sort(), ["alive s1 1", "alive s2 1", "alive s3 1"]);
  t.is(cluster.puts, 0);
});

test("cut off: held after a lease, fenced when the last renewal seen has surely run out", async (t) => {
  const cluster = await three();
  const cutAt = 401;
  cluster.cut("s2");
  await cluster.run(300);
  t.deepEqual(cluster.lines().slice(3), ["suspected s2 1 lease not renewed", "fenced s2 1 lease"]);
  const suspected = cluster.when("suspected s2 1 lease not renewed") - cutAt;
  const fenced = cluster.when("fenced s2 1 lease") - cutAt;
  t.true(suspected > 70 && suspected <= 101, `suspected after ${suspected}`);
  t.true(fenced > suspected + 3 && fenced <= suspected + 7, `fenced after ${fenced}`);
  t.is(cluster.lease("s2")?.state, "dead");
  t.deepEqual(cluster.violations, []);
  t.true(cluster.detector.isFenced("s2", 1));
  t.false(cluster.detector.isFenced("s1", 1));
  t.false(cluster.detector.isAlive("s2"));
});

test("fenced by its own supervisor: said at once", async (t) => {
  const cluster = await three();
  cluster.fence("s3");
  await cluster.run(1);
  t.deepEqual(cluster.lines().slice(3), ["fenced s3 1 fenced"]);
});

test("a worker started anew: the old incarnation is fenced before the new one is alive", async (t) => {
  const cluster = await three();
  cluster.fence("s3");
  cluster.start("s3");
  await cluster.run(100);
  t.deepEqual(cluster.lines().slice(3), ["fenced s3 1 fenced", "alive s3 2"]);
  t.true(cluster.detector.isFenced("s3", 1));
  t.false(cluster.detector.isFenced("s3", 2));
});

test("a new incarnation without a word about the old one: at once on the same boot, after a lease on another", async (t) => {
  const same = await three();
  same.start("s3");
  await same.run(200);
  t.deepEqual(same.lines().slice(3), ["fenced s3 1 taken anew", "alive s3 2"]);
  t.true(same.when("fenced s3 1 taken anew") < 403);
  const other = await three();
  other.start("s3", "another machine");
  await other.run(200);
  t.deepEqual(other.lines().slice(3), [
    "suspected s3 1 taken anew elsewhere",
    "fenced s3 1 taken anew elsewhere",
    "alive s3 2",
  ]);
  t.true(other.when("fenced s3 1 taken anew elsewhere") >= 401 + 105);
  t.deepEqual([...same.violations, ...other.violations], []);
});

test("a renewal that the watch has not brought yet: the store refuses the death, and the suspicion ends", async (t) => {
  const cluster = await three();
  cluster.cut("s2");
  await cluster.run(60);
  cluster.watchDelayMs = 60; // what happens from now on is seen late
  cluster.heal("s2");
  await cluster.run(35);
  cluster.watchDelayMs = 0.3;
  await cluster.run(500);
  t.true(cluster.puts > 0, "it was to be declared");
  t.deepEqual(cluster.lines().slice(3), ["suspected s2 1 lease not renewed", "unsuspected s2 1 renewed"]);
  t.is(cluster.lease("s2")?.state, "alive");
});

test("what lies unread in the socket is read before anybody is suspected", async (t) => {
  let now = 0n;
  let timer: (() => void) | undefined;
  let answer: (() => void) | undefined;
  const said: string[] = [];
  let puts = 0;
  const detector = new Detector(
    { durationMs: 100, renewMs: 25, marginMs: 5 },
    {
      nowNs: () => now,
      put: () => {
        puts++;
        return new Promise(() => {});
      },
      barrier: () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
      after: (_ms, callback) => {
        timer = callback;
        return () => {};
      },
    },
    {
      onAlive: () => {},
      onSuspected: (server) => said.push(server),
      onUnsuspected: () => {},
      onFenced: () => {},
    },
  );
  const see = (server: string, revision: number, atMs: number) => {
    now = BigInt(atMs) * 1_000_000n;
    const lease = { server, incarnation: 1, state: "alive" as const, renewal: revision, boot: server };
    detector.observe({ lease, revision }, now);
  };
  detector.caughtUp();
  see("s1", 1, 400);
  see("s2", 2, 400);
  see("s1", 3, 490);
  now = 505_000_000n;
  timer?.();
  t.deepEqual(said, [], "the barrier is asked for first");
  see("s2", 4, 505);
  answer?.();
  await Promise.resolve();
  await Promise.resolve();
  t.deepEqual(said, []);
  t.is(puts, 0);
});

test("this process stood still for longer than every lease: nobody is suspected", async (t) => {
  const cluster = await three();
  cluster.stopController(10_000);
  await cluster.run(10_500);
  t.deepEqual(cluster.lines().slice(3), []);
  t.is(cluster.puts, 0);
});

test("stood still while one died: only that one", async (t) => {
  const cluster = await three();
  cluster.stopController(1_000);
  cluster.at(300, () => cluster.cut("s1"));
  await cluster.run(1_500);
  t.deepEqual(cluster.lines().slice(3), ["suspected s1 1 lease not renewed", "fenced s1 1 lease"]);
});

test("store away and back: grace for everybody, then those that did not return", async (t) => {
  const cluster = await three();
  cluster.storeUp = false;
  cluster.detector.interrupted();
  await cluster.run(3_000);
  t.deepEqual(cluster.lines().slice(3), []);
  cluster.cut("s1");
  cluster.storeUp = true;
  cluster.detector.caughtUp();
  await cluster.run(195);
  t.deepEqual(cluster.lines().slice(3), [], "two leases of grace");
  await cluster.run(100);
  t.deepEqual(cluster.lines().slice(3), ["suspected s1 1 lease not renewed", "fenced s1 1 lease"]);
});

test("a suspicion is let go when the store goes away before it was confirmed", async (t) => {
  const cluster = await three();
  cluster.detector.hint("s1", "stream closed");
  t.deepEqual(cluster.lines().slice(3), ["suspected s1 1 stream closed"]);
  cluster.detector.interrupted();
  t.is(cluster.lines().at(-1), "unsuspected s1 1 the store is gone");
});

test("everybody silent at once: the fault is elsewhere, nobody is declared dead", async (t) => {
  const cluster = await three();
  for (const server of ["s1", "s2", "s3"]) cluster.cut(server);
  await cluster.run(3_000);
  t.deepEqual(cluster.lines().slice(3), []);
  t.is(cluster.puts, 0);
  cluster.heal("s1");
  await cluster.run(400);
  t.deepEqual(
    cluster
      .lines()
      .slice(3)
      .filter((line) => line.startsWith("fenced"))
      .sort(),
    ["fenced s2 1 lease", "fenced s3 1 lease"],
  );
});

test("two at once: held on suspicion one at a time, the other when the store has confirmed it", async (t) => {
  const cluster = await three();
  cluster.cut("s1");
  cluster.cut("s2");
  await cluster.run(300);
  const lines = cluster.lines().slice(3);
  t.deepEqual(lines.filter((line) => line.startsWith("fenced")).sort(), ["fenced s1 1 lease", "fenced s2 1 lease"]);
  t.is(
    lines.filter((line) => line === "suspected s1 1 lease not renewed" || line === "suspected s2 1 lease not renewed")
      .length,
    1,
  );
  t.is(lines.filter((line) => line.startsWith("suspected")).length, 2);
});

test("a single server is not declared dead by silence: nobody could take over", async (t) => {
  const cluster = new Cluster();
  cluster.start("s1");
  cluster.detector.caughtUp();
  await cluster.run(300);
  cluster.cut("s1");
  await cluster.run(2_000);
  t.deepEqual(cluster.lines(), ["alive s1 1"]);
  cluster.fence("s1");
  cluster.start("s1");
  await cluster.run(100);
  t.deepEqual(cluster.lines(), ["alive s1 1", "fenced s1 1 fenced", "alive s1 2"]);
});

test("a hint holds until the next renewal", async (t) => {
  const cluster = await three();
  cluster.detector.hint("s2", "stream closed");
  cluster.detector.hint("s3", "stream closed");
  await cluster.run(40);
  t.deepEqual(cluster.lines().slice(3), ["suspected s2 1 stream closed", "unsuspected s2 1 renewed"], "one at a time");
});

test("found at the start: dead waits a lease, fenced does not, silent ones get their grace", async (t) => {
  const cluster = new Cluster();
  for (const server of ["s1", "s2", "s3", "s4"]) cluster.start(server);
  await cluster.run(5);
  cluster.fence("s2");
  cluster.cut("s3");
  await cluster.run(5);
  const late = new Cluster();
  // The view of a controller that starts now: only the last document of each key.
  const at = BigInt(Math.round(late.now));
  late.start("s4");
  const lease = (server: string) =>
    cluster.lease(server) ?? { server, incarnation: 0, state: "alive" as const, renewal: 0, boot: "" };
  late.detector.observe({ lease: { ...lease("s1"), state: "dead" }, revision: 101 }, at);
  late.detector.observe({ lease: lease("s2"), revision: 102 }, at);
  late.detector.observe({ lease: lease("s3"), revision: 103 }, at);
  late.detector.caughtUp();
  await late.run(1_000);
  t.is(late.when("fenced s2 1 fenced"), 0);
  t.is(late.when("fenced s1 1 lease"), 105);
  t.true(late.puts > 0, "s3 was to be declared");
  t.true(late.when("suspected s3 1 lease not renewed") >= 200);
});

test("a store that lost its disk: the next incarnation counts whatever its revision", async (t) => {
  const cluster = await three();
  const lease = cluster.lease("s1");
  if (lease === undefined) throw new Error("no lease");
  cluster.detector.observe({ lease: { ...lease, incarnation: 2 }, revision: 1 }, BigInt(Math.round(cluster.now)));
  t.deepEqual(cluster.lines().slice(3), ["fenced s1 1 taken anew", "alive s1 2"]);
});

const troubles = fc.record({
  cuts: fc.array(
    fc.record({
      server: fc.integer({ min: 1, max: 3 }),
      at: fc.integer({ min: 0, max: 3_000 }),
      for: fc.integer({ min: 1, max: 1_000 }),
    }),
    { maxLength: 6 },
  ),
  fences: fc.array(fc.record({ server: fc.integer({ min: 1, max: 3 }), at: fc.integer({ min: 0, max: 3_000 }) }), {
    maxLength: 4,
  }),
  stops: fc.array(fc.record({ at: fc.integer({ min: 0, max: 3_000 }), for: fc.integer({ min: 1, max: 600 }) }), {
    maxLength: 3,
  }),
  outages: fc.array(fc.record({ at: fc.integer({ min: 0, max: 3_000 }), for: fc.integer({ min: 1, max: 600 }) }), {
    maxLength: 2,
  }),
  delays: fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 8 }),
});

test("whatever is cut, stopped or away: no server is called fenced while it may send, and every dead one is in the end", async (t) => {
  let fenced = 0;
  await fc.assert(
    fc.asyncProperty(troubles, async (trouble) => {
      const cluster = await three();
      for (const cut of trouble.cuts) {
        cluster.at(cut.at, () => cluster.cut(`s${cut.server}`));
        cluster.at(cut.at + cut.for, () => {
          const server = `s${cut.server}`;
          if (cluster.lease(server)?.state === "alive") cluster.heal(server);
          else cluster.start(server);
        });
      }
      for (const fence of trouble.fences) {
        cluster.at(fence.at, () => cluster.fence(`s${fence.server}`));
        cluster.at(fence.at + 30, () => {
          if (cluster.lease(`s${fence.server}`)?.state === "fenced") cluster.start(`s${fence.server}`);
        });
      }
      for (const stop of trouble.stops) cluster.at(stop.at, () => cluster.stopController(stop.for));
      for (const outage of trouble.outages) {
        cluster.at(outage.at, () => {
          cluster.storeUp = false;
          cluster.detector.interrupted();
        });
        cluster.at(outage.at + outage.for, () => {
          cluster.storeUp = true;
          cluster.detector.caughtUp();
        });
      }
      for (const [i, delay] of trouble.delays.entries()) {
        cluster.at(i * 400, () => {
          cluster.watchDelayMs = delay / 10;
        });
      }
      await cluster.run(4_000);
      if (!cluster.storeUp) {
        cluster.storeUp = true;
        cluster.detector.caughtUp();
      }
      await cluster.run(3_000);
      if (cluster.violations.length > 0) throw new Error(cluster.violations.join("; "));
      fenced += cluster.lines().filter((line) => line.startsWith("fenced")).length;
      const said = new Set<string>();
      for (const line of cluster.lines().filter((text) => text.startsWith("fenced"))) {
        const key = line.split(" ").slice(1, 3).join("/");
        if (said.has(key)) throw new Error(`${key} fenced twice`);
        said.add(key);
      }
      for (const server of ["s1", "s2", "s3"]) {
        const lease = cluster.lease(server);
        const settled = cluster.detector.isAlive(server) || cluster.detector.isFenced(server, lease?.incarnation ?? 0);
        if (!settled)
          throw new Error(`${server} is neither alive nor fenced in the end: ${cluster.lines().join("; ")}`);
      }
    }),
    { numRuns: 80 },
  );
  t.true(fenced > 50, `${fenced}`);
});
