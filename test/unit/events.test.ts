import "../support/quiet.js";
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { EventLog, isoTime } from "../../controller/events/index.js";
import { testDirectory } from "../support/directory.js";

test("events are complete, in order, and limited from the end", (t) => {
  const log = new EventLog(testDirectory(t));
  log.append({ kind: "server", from: "s1", reason: "fenced" });
  log.append({ kind: "takeover", connection: "c", result: "ok", phases: { LIVE: 5 }, heldPackets: 2, heldUs: 3 });
  const [first, second] = log.recent();
  t.deepEqual(Object.keys(first ?? {}).sort(), [
    ...["bundle", "connection", "from", "heldPackets", "heldUs", "kind", "phases", "reason", "result", "time", "to"],
  ]);
  t.true((first?.time ?? "") <= (second?.time ?? ""));
  t.is(log.recent(1).length, 1);
  t.is(log.recent(1)[0]?.kind, "takeover");
});

test("a restarted controller still has them, whatever a killed one left half-written", async (t) => {
  const state = testDirectory(t);
  const log = new EventLog(state);
  for (let i = 0; i < 100; i++) log.append({ kind: "takeover", connection: `c${i}` });
  await log.close();
  appendFileSync(join(state, "events.jsonl"), '{"kind":"takeover","conn');

  const again = new EventLog(state);
  t.is(again.recent().length, 100);
  again.append({ kind: "controller", result: "ok" });
  await again.close();
  const third = new EventLog(state);
  t.is(third.recent().length, 101);
  t.is(third.recent().at(-1)?.kind, "controller");
});

test("the last 20,000 are kept, in memory and on disk, and the files are bounded", async (t) => {
  const state = testDirectory(t);
  const log = new EventLog(state);
  for (let i = 0; i < 70_000; i++) {
    log.append({ kind: "takeover", connection: `c${i}` });
    if (i % 5000 === 4999) await log.flush();
  }
  t.true(log.recent().length >= 20_000);
  t.is(log.recent().at(-1)?.connection, "c69999");
  await log.close();
  const lines = (name: string) => readFileSync(join(state, name), "utf8").split("\n").length - 1;
  t.true(lines("events.jsonl") + lines("events.jsonl.1") >= 20_000);
  t.true(lines("events.jsonl") + lines("events.jsonl.1") <= 45_000);
  const again = new EventLog(state).recent();
  t.true(again.length >= 20_000);
  t.is(again.at(-1)?.connection, "c69999");
  // none is missing in between
  t.is(again[0]?.connection, `c${70_000 - again.length}`);
});

test("a follower gets the past and then the present, once each", async (t) => {
  const log = new EventLog(testDirectory(t));
  log.append({ kind: "server", reason: "1" });
  log.append({ kind: "server", reason: "2" });
  const follower = log.follow(1);
  log.append({ kind: "server", reason: "3" });
  const got: string[] = [];
  for await (const { reason } of follower) {
    got.push(reason);
    if (reason === "3") setImmediate(() => log.append({ kind: "server", reason: "4" }));
    if (reason === "4") break;
  }
  t.deepEqual(got, ["2", "3", "4"]);
});

test("a follower that does not read is ended, not remembered for ever", async (t) => {
  const log = new EventLog(testDirectory(t));
  const follower = log.follow();
  for (let i = 0; i < 50_001; i++) log.append({ kind: "server" });
  await t.throwsAsync(follower.next(), { message: /too slow/ });
});

test("times have microseconds", (t) => {
  t.is(isoTime(1_790_000_000_123_456), "2026-09-21T14:13:20.123456Z");
  t.is(isoTime(1_790_000_000_000_007), "2026-09-21T14:13:20.000007Z");
});
