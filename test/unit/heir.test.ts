import "../support/quiet.js";
import test from "ava";
import { BatonError } from "../../proto/errors.js";
import { decodeRecord, encodeRecord } from "../../proto/record.js";
import { toSequence } from "../../proto/sequence.js";
import { eventually } from "../support/eventually.js";
import { literalRecord, WorkerScene } from "../support/worker_scene.js";

const away = () => new BatonError("STORE_UNAVAILABLE", "the store has not acknowledged in time");
const record = literalRecord();
/** The client has 250 bytes of the answer. */
const ack = toSequence(record.tcp.serverIsn, 250);

test("a connection goes on at the client's exact ack", async (t) => {
  const scene = new WorkerScene(t);
  scene.stored(record);
  scene.takeOver();
  await eventually("a probe", () => scene.probes.length > 0);
  scene.answer(record, ack);
  const [result] = await eventually("a report", () => scene.reported.length > 0 && scene.reported);
  t.like(result, { takeover: "s1.3", id: record.id, result: "ok", from: "s1", epoch: 2 });
  t.is(scene.table.get(record.id)?.phase.phase, "LIVE");
});

test("a claim that the store did not take is tried again, for as long as the takeover is open", async (t) => {
  const scene = new WorkerScene(t);
  scene.stored(record);
  scene.bucket.trouble = away();
  scene.takeOver();
  await eventually("several tries", () => scene.bucket.commits >= 3);
  t.deepEqual(scene.reported, [], "it has not ended");
  scene.bucket.trouble = undefined;
  await eventually("a probe", () => scene.probes.length > 0);
  scene.answer(record, ack);
  await eventually("a report", () => scene.reported.length > 0);
  t.deepEqual(
    scene.reported.map(({ result }) => result),
    ["ok"],
  );
  t.true(scene.heir.retried >= 2);
});

test("the store connects again: what has failed without it is tried at once", async (t) => {
  const scene = new WorkerScene(t);
  scene.stored(record);
  scene.bucket.trouble = away();
  scene.takeOver();
  await eventually("four tries: the next one is far away", () => scene.bucket.commits === 4);
  scene.bucket.trouble = undefined;
  const before = performance.now();
  await eventually("it was noticed that the fourth failed", () => scene.heir.retried === 3);
  scene.heir.storeConnected();
  await eventually("a probe", () => scene.probes.length > 0, 400, 1);
  t.true(performance.now() - before < 400);
});

test("the takeover is over: what has failed is left to whoever has it now", async (t) => {
  const scene = new WorkerScene(t);
  scene.stored(record);
  scene.bucket.trouble = away();
  scene.takeOver();
  await eventually("a try", () => scene.bucket.commits === 1);
  scene.takeOver(true);
  scene.heir.record(record.id, 8, scene.bucket.records.get(record.id)!.bytes);
  await eventually("the retry", () => scene.heir.retried === 1);
  t.is(scene.bucket.commits, 1);
  t.deepEqual(scene.reported, []);
});

test("no descriptor is to be had: after some tries the client is asked and reset exactly, and that is said", async (t) => {
  const scene = new WorkerScene(t);
  scene.native.noSockets = Object.assign(new Error("prepare: socket: EMFILE"), { code: "EMFILE" });
  scene.stored(record);
  scene.takeOver();
  await eventually("a probe", () => scene.probes.length > 0);
  t.is(decodeRecord(scene.bucket.records.get(record.id)!.bytes).serverId, "s2", "the claim stands");
  scene.heir.removeLeftovers();
  scene.heir.removeLeftovers();
  t.true(scene.bucket.records.has(record.id), "it is no leftover");
  scene.answer(record, ack);
  const [result] = await eventually("a report", () => scene.reported.length > 0 && scene.reported);
  t.like(result, { takeover: "s1.3", result: "refused", reason: "the takeover failed too often", from: "s1" });
  t.is(scene.reported.length, 1);
  t.like(scene.resets, [{ seq: ack }]);
  t.is(scene.guard.entries.size, 0, "its place in the guard's table is free");
  t.false(scene.bucket.records.has(record.id));
});

test("a leftover goes with what is beside its record, once it is certain to be one", async (t) => {
  const scene = new WorkerScene(t);
  scene.stored({ ...record, serverId: "s2", incarnation: 1 });
  scene.heir.removeLeftovers();
  t.true(scene.bucket.records.has(record.id));
  t.deepEqual(scene.spills.purged, []);
  scene.heir.removeLeftovers();
  await eventually("both are gone", () => scene.spills.purged.length > 0);
  t.deepEqual(scene.spills.purged, [record.id]);
  t.false(scene.bucket.records.has(record.id));
});

test("the guard has no room: tried again until there is", async (t) => {
  const scene = new WorkerScene(t);
  scene.guard.isFull = true;
  scene.stored(record);
  scene.takeOver();
  await eventually("two tries", () => scene.heir.retried >= 2);
  t.is(scene.native.open.size, 0, "no socket is left of them");
  scene.guard.isFull = false;
  await eventually("a probe", () => scene.probes.length > 0);
  scene.answer(record, ack);
  await eventually("a report", () => scene.reported.length > 0);
  t.like(scene.reported, [{ result: "ok", epoch: 2 }]);
});

test("a rebuilt socket that cannot be used is closed, and another one made", async (t) => {
  const scene = new WorkerScene(t);
  scene.native.noSpeech = new Error("activate: setsockopt(TCP_REPAIR): EPERM");
  scene.stored(record);
  scene.takeOver();
  await eventually("a probe", () => scene.probes.length > 0);
  scene.answer(record, ack);
  await eventually("it failed", () => scene.native.open.size === 0);
  scene.native.noSpeech = undefined;
  await eventually("another probe", () => scene.heir.retried === 1 && scene.native.open.size > 0);
  scene.answer(record, ack);
  await eventually("a report", () => scene.reported.length > 0);
  t.like(scene.reported, [{ result: "ok" }]);
  t.is(scene.native.open.size, 1);
});

test("one record that cannot be read costs nobody else anything", async (t) => {
  const scene = new WorkerScene(t);
  const odd = record;
  const later = literalRecord(51235);
  const bytes = encodeRecord(odd); // begins with field 1, the version
  t.deepEqual([...bytes.subarray(0, 2)], [8, 1]);
  bytes[1] = 3;
  scene.stored(odd, bytes);
  scene.stored(later);
  scene.heir.record("not-an-id", 9, bytes);
  scene.takeOver();
  await eventually("the other one's probe", () => scene.probes.length > 0);
  scene.answer(later, ack);
  await eventually("both reports", () => scene.reported.length === 2);
  t.like(
    scene.reported.find(({ id }) => id === odd.id),
    { result: "failed", reason: "the record is of another version", from: "s1", epoch: 0 },
  );
  t.is(scene.reported.find(({ id }) => id === later.id)?.result, "ok");
  t.deepEqual(scene.bucket.records.get(odd.id)?.bytes, bytes, "it is left alone");
});

test("a connection that is rebuilt for late data and refused is reported", async (t) => {
  const scene = new WorkerScene(t);
  scene.stored(record);
  scene.takeOver();
  await eventually("a probe", () => scene.probes.length > 0);
  scene.answer(record, ack);
  await eventually("a report", () => scene.reported.length === 1);
  const claimed = scene.bucket.records.get(record.id)!;
  scene.heir.record(record.id, claimed.revision, claimed.bytes);
  const probes = scene.probes.length;
  const late = { payload: 0, flags: 16, window: 500, hasTimestamps: true, tsval: 1, tsecr: lastClock(scene) };
  const seq = toSequence(record.tcp.clientIsn, record.consumed);
  scene.heir.resumeAgain(scene.table.get(record.id)!, { ...late, seq, ack: toSequence(record.tcp.serverIsn, 290) });
  await eventually("a second probe", () => scene.probes.length > probes);
  const beyond = toSequence(record.tcp.serverIsn, 5_000);
  scene.answer(record, beyond);
  scene.answer(record, beyond);
  await eventually("a report of its end", () => scene.reported.length === 2);
  t.like(scene.reported[1], { takeover: "", id: record.id, result: "refused", from: "s2" });
});

test("a client that was not told of all that is stored, and whose window is shut, answers from where it ends", async (t) => {
  const scene = new WorkerScene(t);
  scene.stored(record);
  scene.takeOver();
  await eventually("a probe", () => scene.probes.length > 0);
  const shut = { ...record, consumed: record.consumed - 10 };
  scene.answer(shut, ack);
  const probes = scene.probes.length;
  t.true(probes > 1, "it may be an old packet: it is asked again at once");
  t.is(scene.reported.length, 0);
  scene.answer(shut, ack);
  await eventually("a report", () => scene.reported.length > 0);
  t.like(scene.reported[0], { id: record.id, result: "ok" });
  const told = scene.probes.slice(probes);
  t.deepEqual(
    told.map(({ ack: taken, payload }) => [taken, payload]),
    [[toSequence(record.tcp.clientIsn, record.consumed), undefined]],
  );
});

test("packets that are no answers are counted by reason", async (t) => {
  const scene = new WorkerScene(t);
  scene.answer(record, ack);
  scene.stored(record);
  scene.takeOver();
  await eventually("a probe", () => scene.probes.length > 0);
  scene.answer({ ...record, consumed: record.consumed - 10 }, ack, 1);
  t.deepEqual(scene.desk.ignored.entries, [
    ["nobody waits for it", 1],
    ["retransmission", 1],
  ]);
  scene.answer(record, ack);
  await eventually("a report", () => scene.reported.length > 0);
});

function lastClock(scene: WorkerScene): number {
  return scene.probes.at(-1)?.timestamps?.value ?? 0;
}
