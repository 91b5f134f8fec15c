import test from "ava";
import type { Foreseen } from "../../agent/protocols/application.js";
import { Foresight } from "../../agent/restore/foresight.js";
import { type ConnectionRecord, encodeRecord } from "../../proto/record.js";
import { eventually } from "../support/eventually.js";
import { exampleRecord } from "../support/record.js";

function scene() {
  const seen: ConnectionRecord[] = [];
  const answers: Foreseen[] = [];
  const foresight = new Foresight("s2", async (record) => {
    seen.push(record);
    return answers.shift() ?? "ready";
  });
  const record = { ...exampleRecord(), serverId: "s1" };
  const hear = (bytes: Uint8Array, bundleId: string) =>
    foresight.record({ id: record.id, revision: 1, bytes, bundleId });
  const say = (change: Partial<ConnectionRecord>) => {
    const said = { ...record, ...change };
    hear(encodeRecord(said), said.bundleId);
  };
  return { seen, answers, foresight, record, hear, say };
}

test("another server's control connection is looked at, once in a while", (t) => {
  const { seen, foresight, record, say } = scene();
  const bundleId = record.id;
  say({ bundleId });
  say({ bundleId, epoch: 2 });
  t.deepEqual(
    seen.map(({ id, epoch }) => [id, epoch]),
    [[record.id, 1]],
  );
  foresight.removed(record.id);
  say({ bundleId, epoch: 3 });
  t.is(seen.length, 2, "it is another connection");
});

test("what could not be got ready, and who has not asked for anything, is looked at again soon", async (t) => {
  const { seen, answers, record, say } = scene();
  answers.push("nothing", "nothing", "nothing", "nothing", "unready");
  const began = performance.now();
  await eventually("it is ready", () => {
    say({ bundleId: record.id });
    return seen.length === 6;
  });
  t.true(performance.now() - began < 7_000, "one that waits for its client is no reason to look less often");
  say({ bundleId: record.id });
  t.is(seen.length, 6);
});

test("nobody looks at our own, at those of no bundle, at related ones, and at what cannot be read", (t) => {
  const { seen, foresight, record, hear, say } = scene();
  say({ bundleId: record.id, serverId: "s2" });
  say({ bundleId: "" });
  say({ bundleId: "another" });
  foresight.removed(record.id);
  const bytes = encodeRecord({ ...record, bundleId: record.id });
  t.notThrows(() => hear(bytes.subarray(0, Math.floor(bytes.length / 2)), record.id));
  t.deepEqual(seen, []);
});
