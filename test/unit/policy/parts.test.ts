import test from "ava";
import fc from "fast-check";
import { Budget } from "../../../controller/policy/budget.js";
import { Rates } from "../../../controller/policy/candidates.js";
import { Hysteresis } from "../../../controller/policy/hysteresis.js";
import {
  type HostLoad,
  indexOf,
  type MetricName,
  metricPhrase,
  othersOf,
  thresholdsOf,
} from "../../../controller/policy/load.js";
import { parseConfig } from "../../../proto/config/index.js";
import type { LiveConnection } from "../../../proto/rpc/index.js";
import { idle, thresholds } from "./_cluster.js";

const steps = fc.array(
  fc.record({ index: fc.double({ min: 0, max: 2, noNaN: true }), ms: fc.integer({ min: 1, max: 1_900 }) }),
  { maxLength: 60 },
);

test("overload begins and ends only after a sustained time", (t) => {
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 5_000 }), (samples, sustainedMs) => {
      const hysteresis = new Hysteresis(0.7, sustainedMs);
      const seen: Array<{ at: number; index: number }> = [];
      let now = 0;
      for (const { index, ms } of samples) {
        now += ms;
        const before = hysteresis.on;
        hysteresis.observe(now, index);
        seen.push({ at: now, index });
        /** Whether the samples up to now have all been so for long enough. */
        const sustained = (holds: (index: number) => boolean) => {
          let since = now;
          for (const sample of [...seen].reverse()) {
            if (!holds(sample.index)) break;
            since = sample.at;
          }
          return holds(index) && now - since >= sustainedMs;
        };
        const expected = before ? !sustained((value) => value < 0.7) : sustained((value) => value >= 1);
        if (hysteresis.on !== expected) return false;
      }
      return true;
    }),
  );
  t.pass();
});

test("a budget is never exceeded, and never withheld", (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 700 }), { maxLength: 200 }),
      fc.integer({ min: 1, max: 30 }),
      (gaps, perSecond) => {
        const budget = new Budget(perSecond);
        let now = 0;
        let taken = 0;
        for (const gap of gaps) {
          now += gap;
          if (budget.take(now)) taken++;
          if (taken > perSecond + (perSecond * now) / 1000 + 1e-6) return false;
        }
        return budget.take(now + 1_100);
      },
    ),
  );
  t.pass();
});

test("the index is the largest of metric by threshold, and says which", (t) => {
  const none = othersOf([]);
  const cases: Array<[Partial<HostLoad>, MetricName, number, string]> = [
    [{ cpu: 1.93 }, "cpuLead", 3.22, "cpu 1.93 of 2 cores, 1.93 wanted where the others want 0.00, above 0.60"],
    [
      { cpu: 0.4, waiting: 0.5 },
      "cpuLead",
      1.5,
      "cpu 0.40 of 2 cores, 0.90 wanted where the others want 0.00, above 0.60",
    ],
    [{ pressure: 60 }, "pressure", 2, "pressure 60.0% where the others have 0.0%, above 30.0%"],
    [{ loopDelayMs: 150 }, "loopDelay", 1.5, "event loop 150 ms late, above 100 ms"],
    [{ egress: 120e6 }, "egress", 1.2, "egress 120.0 MB/s, above 100.0 MB/s"],
    [{ connections: 1100 }, "connections", 1.1, "1100 connections, above 1000"],
    [{ cpu: 2, cores: 0, pressure: 6 }, "pressure", 0.2, "pressure 6.0% where the others have 0.0%, above 30.0%"],
  ];
  for (const [changed, metric, value, phrase] of cases) {
    const load = { ...idle, ...changed };
    const index = indexOf(load, none, thresholds);
    t.is(index.metric, metric);
    t.is(Number(index.value.toFixed(2)), value);
    t.is(metricPhrase(index.metric, load, none, thresholds, "above"), phrase);
  }
});

test("what the others feel as well does not count; one more that is overloaded does not hide the first", (t) => {
  const load = { ...idle, cpu: 1.2, pressure: 50 };
  t.true(indexOf(load, othersOf([load, load]), thresholds).value < 1);
  t.true(indexOf(load, othersOf([load, idle]), thresholds).value > 1);
  t.is(indexOf({ ...idle, cpu: 1.8 }, othersOf([{ ...idle, cpu: 1.8 }]), thresholds).metric, "cpu");
});

test("thresholds that are not configured come from the limits, and from the link where it is known", (t) => {
  const text = (more: string) => `
vips: [10.0.0.100]
controllers: [{ id: lb1, listen: "10.0.0.1:7600" }]
servers: [{ id: s1, address: 10.0.0.101 }]
services: [{ name: http, port: 80, protocol: http, directory: a }]
limits: { flows: 1000 }
${more}`;
  const made = (more: string) => {
    const { overload, limits } = parseConfig(text(more), "f.yaml");
    return thresholdsOf(overload, limits);
  };
  const known = made("");
  t.deepEqual(known, {
    ...{ cpu: 0.8, cpuLead: 0.3, pressure: 30, loopDelayMs: 100 },
    ...{ egress: undefined, connections: 800 },
  });
  const none = othersOf([]);
  t.is(indexOf({ ...idle, cores: 0, pressure: 0, egress: 90e6, link: 100e6 }, none, known).value, 1);
  t.true(indexOf({ ...idle, cores: 0, pressure: 0, egress: 90e6 }, none, known).value < 0.1);
  const set = made("overload: { thresholds: { egressMegabytesPerSecond: 50, connections: 7 } }");
  t.like(set, { egress: 50e6, connections: 7 });
});

test("rates: from two looks, or the average of what reads in bursts; nothing of what is idle", (t) => {
  const connection: LiveConnection = {
    ...{ id: "c", phase: "LIVE", bytesSent: 10_000, bytesReceived: 0, clientSeq: 0, serverSeq: 0, object: "" },
    ...{ objectOffset: 0, firstByteSeq: 0, isProtected: true, reason: "", ageSeconds: 10, history: [], tcpState: 1 },
    outstanding: 5,
  };
  const rates = new Rates();
  const rateOf = (at: number, changed: Partial<LiveConnection>) =>
    rates.look(at, [{ ...connection, ...changed }])[0]?.rate;
  t.is(rateOf(1_000, {}), 1_000, "the average at first");
  t.is(rateOf(2_000, { bytesSent: 40_000 }), 30_000);
  t.is(rateOf(3_000, { bytesSent: 40_000, ageSeconds: 20 }), 2_000, "it reads in bursts");
  t.is(rateOf(4_000, { bytesSent: 40_000, outstanding: 0 }), 0, "idle");
  const movable = (changed: Partial<LiveConnection>) => rates.look(0, [{ ...connection, ...changed }])[0]?.movable;
  t.deepEqual([movable({}), movable({ isProtected: false }), movable({ phase: "HELD" })], [true, false, false]);
});
