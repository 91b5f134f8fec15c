import "../support/quiet.js";
import { setTimeout as delay } from "node:timers/promises";
import test from "ava";
import { type CommitSource, Committer } from "../../agent/connection/committer.js";
import type { ConnectionRecord } from "../../proto/record.js";
import type { ConnectionsBucket } from "../../proto/store/index.js";
import { exampleRecord } from "../support/record.js";

function scene(snapshot: () => ConnectionRecord) {
  const ids: string[] = [];
  const told: string[] = [];
  const commit = async (_id: string, _bytes: Uint8Array, _expected: number, messageId: string) => ids.push(messageId);
  const source: CommitSource = {
    snapshot,
    committed: () => void told.push("committed"),
    goesAhead: () => false,
    lost: (why) => void told.push(`lost: ${why}`),
    broken: () => void told.push("broken"),
  };
  const open = () => new Committer({ commit } as unknown as ConnectionsBucket, "id", "s1/1", 0, source);
  return { ids, told, open };
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
