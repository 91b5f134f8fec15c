import "../support/quiet.js";
import test, { type ExecutionContext } from "ava";
import { RefusedError } from "../../proto/errors.js";
import type { ConnectionRecord } from "../../proto/record.js";
import { toSequence } from "../../proto/sequence.js";
import { eventually } from "../support/eventually.js";
import { literalRecord, WorkerScene } from "../support/worker_scene.js";

const control = of(literalRecord(40_001));
const data = of(literalRecord(40_002));
const late = of(literalRecord(40_003));

function of(record: ConnectionRecord): ConnectionRecord {
  return { ...record, bundleId: literalRecord(40_001).id };
}

/** Records of s1, and a server whose watch sees what it writes itself. */
function takenOver(t: ExecutionContext, ...records: ConnectionRecord[]): WorkerScene {
  const scene = new WorkerScene(t);
  scene.bucket.written = (id, revision, bytes) => scene.heir.record(id, revision, bytes);
  for (const record of records) scene.stored(record);
  return scene;
}

/** Resolves when the client was probed on all of them; then it answers. */
async function answered(scene: WorkerScene, ...records: ConnectionRecord[]): Promise<void> {
  for (const record of records) {
    const { port } = record.flow.client;
    await eventually(`a probe of ${port}`, () => scene.probes.some(({ remote }) => remote.port === port));
  }
  for (const record of records) scene.answer(record, toSequence(record.tcp.serverIsn, 250));
}

function resultsOf(scene: WorkerScene) {
  return scene.reported.map(({ id, result, from }) => [id, result, from]);
}

test("a bundle goes on as one, its control connection last", async (t) => {
  const scene = takenOver(t, control, data);
  scene.takeOver();
  await answered(scene, control, data);
  await eventually("both are reported", () => scene.reported.length === 2);
  t.deepEqual(resultsOf(scene), [
    [data.id, "ok", "s1"],
    [control.id, "ok", "s1"],
  ]);
});

test("its datagrams stand still from before its layer takes its section in until it is ready", async (t) => {
  const scene = takenOver(t, control);
  scene.takeOver();
  await answered(scene, control);
  await eventually("it is reported", () => scene.reported.length === 1);
  t.deepEqual(scene.layerCalls, ["freeze datagrams", "unready", "thaw datagrams", "ready"]);
});

test("nothing is left of the datagrams of one that is only reset", async (t) => {
  const scene = takenOver(t, control, data);
  scene.layer = { unready: () => Promise.reject(new RefusedError("object changed", "it is another one")) };
  scene.takeOver();
  await answered(scene, control, data);
  await eventually("both are reported", () => scene.reported.length === 2);
  t.deepEqual(
    scene.layerCalls.filter((what) => / datagrams$/.test(what)),
    ["freeze datagrams", "close datagrams"],
  );
});

test("what is related is asked for with every try", async (t) => {
  const scene = takenOver(t, control, data);
  scene.native.noSockets = new Error("EMFILE");
  scene.takeOver();
  await eventually("one try has failed", () => scene.heir.retried >= 1);
  scene.stored(late); // the dead server's last write
  scene.native.noSockets = undefined;
  await answered(scene, control, data, late);
  await eventually("all are reported", () => scene.reported.length === 3);
  t.deepEqual(
    resultsOf(scene).toSorted(),
    [control, data, late].map(({ id }) => [id, "ok", "s1"]),
  );
  for (const { id } of [control, data, late]) t.is(scene.table.get(id)?.phase.phase, "LIVE");
});

test("a related connection that nobody answers for is given up, and its bundle goes on", async (t) => {
  const scene = takenOver(t, control, data, late);
  scene.takeOver();
  const began = performance.now();
  await answered(scene, control, data);
  await eventually("all are reported", () => scene.reported.length === 3);
  t.true(performance.now() - began < 10_000);
  t.deepEqual(resultsOf(scene).toSorted(), [
    [control.id, "ok", "s1"],
    [data.id, "ok", "s1"],
    [late.id, "refused", "s1"],
  ]);
  t.is(scene.table.get(control.id)?.phase.phase, "LIVE");
  t.is(scene.table.get(data.id)?.phase.phase, "LIVE");
  t.is(scene.table.get(late.id), undefined);
});
