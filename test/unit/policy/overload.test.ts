import test from "ava";
import fc from "fast-check";
import { Cluster, host, idle, type Made, settings, spread, TICK_MS } from "./_cluster.js";

const SERVERS = ["s1", "s2", "s3"];
const MB = 1e6;

function cluster(count: number, rate: number, hosts: Record<string, object> = {}, changed = {}): Cluster {
  const { owners, rates } = spread(SERVERS, count, rate);
  const all = Object.fromEntries(SERVERS.map((id) => [id, { ...host, ...hosts[id] }]));
  return new Cluster(all, rates, owners, changed);
}

test("ordinary load, equal or not, moves nothing", (t) => {
  const cases: Array<Record<string, object>> = [
    {},
    { s1: { burnt: 0.3 } },
    { s1: { burnt: 1.2 }, s2: { burnt: 1.2 }, s3: { burnt: 1.2 } },
  ];
  for (const hosts of cases) {
    const calm = cluster(10, MB, hosts);
    calm.run(60);
    t.deepEqual(calm.moves, []);
    t.is(calm.policy.standing(calm.now, "s1").sentence, "");
  }
});

for (const burnt of [0.9, 1, 1.7]) {
  test(`something burns ${burnt} of 2 cores on s1: its connections leave within seconds, in rounds, and stay away`, (t) => {
    const burning = cluster(10, MB, { s1: { burnt } });
    burning.run(2.5);
    t.deepEqual(burning.moves, [], "not yet sustained");
    burning.run(2);
    const first = burning.moves.length;
    t.true(first >= 1 && first <= 7, `${first} in the first round`);
    burning.run(1);
    t.is(burning.moves.length, first, "its effect is waited for");
    burning.run(14.5);
    t.true(burning.countOn("s1") <= 2, `${burning.countOn("s1")} left after 20 s`);
    t.true(burning.countOn("s2") >= 13 && burning.countOn("s3") >= 13, "shared out");
    const { sentence, overloaded } = burning.policy.standing(burning.now, "s1");
    t.true(overloaded);
    t.regex(sentence, /^overloaded: cpu \d\.\d\d of 2 cores.*, above \d\.\d\d, for 20 s; \d+ connections moved away/);
    burning.hosts.s1 = host;
    burning.run(120);
    t.is(new Set(burning.moves.map(({ connection }) => connection)).size, burning.moves.length, "each at most once");
    t.false(burning.policy.standing(burning.now, "s1").overloaded);
  });
}

test("two that are overloaded do not trade, and the third gets only what it can take", (t) => {
  const hot = cluster(10, MB, { s1: { burnt: 1.8 }, s2: { burnt: 1.7 } });
  hot.run(30);
  t.true(hot.moves.length > 0);
  t.deepEqual([...new Set(hot.moves.map(({ to }) => to))], ["s3"]);
});

test("no room: said, and nothing is moved", (t) => {
  const full = cluster(10, MB, { s1: { burnt: 1.9 }, s2: { burnt: 1.3 }, s3: { burnt: 1.3 } });
  full.run(10);
  t.deepEqual(full.moves, []);
  const { sentence, stop } = full.policy.standing(full.now, "s1");
  t.is(sentence, "overloaded: cpu 2.00 of 2 cores, above 1.60, for 10 s; nothing is moved: no server has room");
  t.is(stop, "no room");
  full.hosts.s2 = { ...host, takes: false };
  full.hosts.s3 = { ...host, takes: false };
  full.run(1);
  t.is(full.policy.standing(full.now, "s1").stop, "no server takes");
});

test("idle connections do not relieve a CPU", (t) => {
  const sleepy = cluster(10, 0, { s1: { burnt: 1.9 } });
  sleepy.run(10);
  t.deepEqual(sleepy.moves, []);
  t.is(sleepy.policy.standing(sleepy.now, "s1").stop, "nothing busy");
});

test("too many connections: the idle ones go first", (t) => {
  const { owners, rates } = spread(["s1"], 1100, 0);
  for (let i = 1; i <= 100; i++) rates[`c${i}s1`] = 1000;
  const many = new Cluster({ s1: host, s2: host }, rates, owners);
  many.run(60);
  t.true(many.countOn("s1") <= 1000 * settings.lowMark, `${many.countOn("s1")}`);
  t.true(many.moves.every(({ connection }) => rates[connection] === 0));
  t.true(many.moves.length < 600, "and no more than is needed");
});

test("egress: what sends most goes first, and no more than suffices", (t) => {
  const { owners, rates } = spread(["s1"], 10, 8 * MB);
  rates.c5s1 = 40 * MB;
  const wide = new Cluster({ s1: { ...host, cost: 0 }, s2: { ...host, cost: 0 } }, rates, owners);
  wide.run(30);
  t.is(wide.moves[0]?.connection, "c5s1");
  t.regex(wide.moves[0]?.why ?? "", /^overload of s1: egress 112\.0 MB\/s, above 100\.0 MB\/s$/);
  const left = [...wide.owners].reduce((sum, [id, owner]) => sum + (owner === "s1" ? rates[id]! : 0), 0);
  t.true(left < 70 * MB && left >= 60 * MB, `${left}`);
});

test("one connection that is too much for any server stays where it is", (t) => {
  const elephant = new Cluster(
    { s1: { ...host, cost: 0 }, s2: { ...host, cost: 0 } },
    { big: 120 * MB, small: MB },
    { big: "s1", small: "s2" },
  );
  elephant.run(300);
  t.deepEqual(elephant.moves, []);
});

test("while a takeover is open nothing is moved", (t) => {
  const burning = cluster(10, MB, { s1: { burnt: 1.9 } });
  burning.blocked = "a takeover is under way";
  burning.run(20);
  t.deepEqual(burning.moves, []);
  t.regex(burning.policy.standing(burning.now, "s1").sentence, /nothing is moved: a takeover is under way$/);
  burning.blocked = "";
  t.true(burning.tick().length > 0);
});

test("what is being drained gives nothing by itself", (t) => {
  const draining = cluster(10, MB, { s1: { burnt: 1.9, gives: false, takes: false } });
  draining.run(20);
  t.deepEqual(draining.moves, []);
});

test("what something else burns is not what a connection costs, though no other server shows what that is", (t) => {
  const one = { s1: { ...host, burnt: 1.5, cost: 0.05 }, s2: host, s3: host };
  const few = new Cluster(one, { download: 1.5 * MB }, { download: "s1" });
  few.run(20);
  t.is(few.countOn("s1"), 0);
});

test("a connection that overloads wherever it is rests twice as long every time", (t) => {
  // What it costs shows only where it is.
  const wanderer = new Cluster({ s1: host, s2: host }, { big: MB, a: MB }, { big: "s1", a: "s2" });
  wanderer.loadOf = (id) => ({ ...idle, cpu: wanderer.owners.get("big") === id ? 1.9 : 0.05, egress: MB });
  wanderer.run(1200);
  const times = wanderer.moves.filter(({ connection }) => connection === "big").map(({ atMs }) => atMs);
  t.true(times.length >= 2 && times.length <= 6, `${times.length} in 20 minutes`);
  for (const [i, at] of times.slice(1).entries()) t.true(at - times[i]! >= 30_000 * 2 ** i, `${at - times[i]!}`);
});

// ---- for any sequence of loads ----

/** Loads whose index lies between `low` and `high`, about. */
const loadBetween = (low: number, high: number) => {
  const part = (threshold: number) => fc.double({ min: low * threshold, max: high * threshold, noNaN: true });
  return fc.record({ cpu: part(1.6), pressure: part(30), loopDelayMs: part(100), egress: part(100e6) });
};
const anyLoad = fc.oneof(loadBetween(0, 0.5), loadBetween(0, 0.5), loadBetween(0.9, 1.2), loadBetween(0, 2));
const mostly = fc.integer({ min: 0, max: 9 }).map((dice) => dice > 0);
/** A load that lasts for some ticks, and states with it. */
const anyStretch = fc.record({
  ticks: fc.integer({ min: 1, max: 60 }),
  loads: fc.array(anyLoad, { minLength: 3, maxLength: 3 }),
  gives: fc.array(mostly, { minLength: 3, maxLength: 3 }),
  takes: fc.array(mostly, { minLength: 3, maxLength: 3 }),
  blocked: mostly.map((not) => !not),
});
const anyRates = fc.array(fc.oneof(fc.constant(0), fc.double({ min: 1, max: 20e6, noNaN: true })), {
  minLength: 10,
  maxLength: 60,
});

test("for any loads: budget, rests, no return, no trade, nothing to the overloaded, nothing while blocked", (t) => {
  let made = 0;
  fc.assert(
    fc.property(
      fc.array(anyStretch, { minLength: 1, maxLength: 12 }),
      anyRates,
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1_000, max: 30_000 }),
      (stretches, connectionRates, movesPerSecond, restMs) => {
        const rates = Object.fromEntries(connectionRates.map((rate, i) => [`c${i}`, rate]));
        const owners = Object.fromEntries(connectionRates.map((_, i) => [`c${i}`, SERVERS[i % 3]!]));
        const hosts = Object.fromEntries(SERVERS.map((id) => [id, host]));
        const random = new Cluster(hosts, rates, owners, { movesPerSecond, restMs });
        for (const { ticks, loads, gives, takes, blocked } of stretches) {
          random.blocked = blocked ? "blocked" : "";
          for (const [i, id] of SERVERS.entries()) hosts[id] = { ...host, gives: gives[i]!, takes: takes[i]! };
          random.loadOf = (id) => ({ ...idle, ...loads[SERVERS.indexOf(id)]!, connections: random.countOn(id) });
          for (let tick = 0; tick < ticks; tick++) {
            for (const { from, to } of random.tick()) {
              if (blocked) throw new Error("moved while blocked");
              if (!hosts[from]!.gives || !hosts[to]!.takes) throw new Error(`${from} does not give or ${to} not take`);
              const [source, target] = [from, to].map((id) => random.policy.standing(random.now, id));
              if (!source!.overloaded) throw new Error(`${from} is not overloaded`);
              if (target!.overloaded || target!.index >= settings.lowMark) throw new Error(`${to} has no room`);
            }
          }
        }
        made += random.moves.length;
        assertWithinBudget(random.moves, movesPerSecond);
        assertRested(random.moves, restMs);
      },
    ),
    { numRuns: 300 },
  );
  t.true(made > 1000, `${made} moves`);
});

function assertWithinBudget(moves: Made[], perSecond: number): void {
  for (const [first, { atMs: from }] of moves.entries()) {
    for (let last = first; last < moves.length; last++) {
      const seconds = (moves[last]!.atMs - from) / 1000;
      const allowed = perSecond + perSecond * seconds;
      if (last - first + 1 > allowed + 1e-6) throw new Error(`${last - first + 1} moves in ${seconds} s`);
    }
  }
}

function assertRested(moves: Made[], restMs: number): void {
  const lastMove = new Map<string, number>();
  const lastReceived = new Map<string, number>();
  for (const { connection, from, to, atMs } of moves) {
    if (atMs < (lastMove.get(connection) ?? -Infinity) + restMs) throw new Error(`${connection} had no rest`);
    if (atMs < (lastReceived.get(from) ?? -Infinity) + restMs) throw new Error(`${from} gives what it was just given`);
    lastMove.set(connection, atMs);
    lastReceived.set(to, atMs);
  }
}

test("ticks that fail to come do not make a load sustained", (t) => {
  const { owners, rates } = spread(["s1", "s2"], 5, MB);
  const asleep = new Cluster({ s1: { ...host, burnt: 1.9 }, s2: host }, rates, owners);
  asleep.run(1);
  asleep.now += 10_000 - TICK_MS;
  t.deepEqual(asleep.tick(), []);
  t.false(asleep.policy.standing(asleep.now, "s1").overloaded);
});
