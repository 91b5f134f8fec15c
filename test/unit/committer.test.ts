import "../support/quiet.js";
import { setTimeout as delay } from "node:timers/promises";
import test from "ava";
import { CommitMeter } from "../../agent/connection/commit_meter.js";
import { type CommitSource, Committer } from "../../agent/connection/committer.js";
import { BatonError } from "../../proto/errors.js";
import type { ConnectionRecord } from "../../proto/record.js";
import type { ConnectionsBucket } from "../../proto/store/index.js";
import { eventually } from "../support/eventually.js";
import { exampleRecord } from "../support/record.js";

/** @param troubles thrown instead of the first writes, in this order */
function scene(snapshot: () => ConnectionRecord, troubles: Error[] = []) {
  const ids: string[] = [];
  const told: string[] = [];
  const said: string[] = [];
  const commit = async (_id: string, _bytes: Uint8Array, _expected: number, messageId: string) => {
    const trouble = troubles.shift();
    if (trouble) throw trouble;
    return ids.push(messageId);
  };
  const source: CommitSource = {
    snapshot,
    committed: () => void told.push("committed"),
    goesAhead: () => false,
    lost: (why) => void told.push(`lost: ${why}`),
    broken: () => void told.push("broken"),
  };
  const seconds: number[] = [];
  const meter = new CommitMeter((took) => void seconds.push(took), {
    warn: (_, line) => void said.push(line),
  });
  const open = () => new Committer({ commit } as unknown as ConnectionsBucket, "id", "s1/1", 0, source, meter);
  return { ids, told, said, seconds, meter, open };
}

test("a record that breaks its rules ends the connection, not the event loop", async (t) => {
  const { ids, told, open } = scene(() => ({ ...exampleRecord(), floor: 2 ** 40 }));
  open().request();
  await delay(1);
  t.deepEqual(ids, []);
  t.deepEqual(told, ["broken"]);
});

test("two lives of a connection in one process never write under the same message id", async (t) => {
  const { ids, told, open } = scene(() => exampleRecord());
  for (let life = 0; life < 2; life++) {
    const committer = open();
    committer.request();
    await delay(1);
    committer.request();
    await delay(1);
  }
  t.is(new Set(ids).size, 4);
  t.is(told.length, 4);
});

test("a change that comes while the last write ends is written as well", async (t) => {
  const { ids, open } = scene(() => exampleRecord());
  const committer = open();
  committer.request();
  for (let turn = 0; turn < 50; turn++) {
    await null;
    committer.request();
  }
  const before = ids.length;
  await delay(1);
  committer.request();
  await delay(1);
  t.true(before >= 10 && ids.length > before, `${before}, ${ids.length}`);
});

test("what the store does not take now is tried again, counted, and said once a second", async (t) => {
  const refusals = Array.from({ length: 3 }, () => new BatonError("STORE_FAILED", "the store refused: no space left"));
  const { ids, told, said, seconds, meter, open } = scene(() => exampleRecord(), refusals);
  open().request();
  await eventually("it is taken in the end", () => told.length > 0);
  t.deepEqual(told, ["committed"]);
  t.is(ids.length, 1);
  t.is(meter.refused, 3);
  t.is(said.length, 1, "three refusals within a second");
  t.is(seconds.length, 1, "only what was acknowledged is measured");
});

test("what the store never takes ends the connection", async (t) => {
  const { ids, told, meter, open } = scene(
    () => exampleRecord(),
    [new BatonError("STORE_TOO_SMALL", "c.id has 2000000 bytes, the store's max_payload is 1048576")],
  );
  open().request();
  await eventually("an end", () => told.length > 0);
  t.deepEqual(told, ["broken"]);
  t.deepEqual(ids, []);
  t.is(meter.refused, 0);
});
