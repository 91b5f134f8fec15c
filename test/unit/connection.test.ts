import "../support/quiet.js";
import test from "ava";
import { Exposures } from "../../agent/connection/exposures.js";
import { guardFlag } from "../../bpf/guard_layout.js";
import { flowKey } from "../../proto/flow.js";
import type { Logger } from "../../proto/log.js";
import { eventually } from "../support/eventually.js";
import { literalRecord, WorkerScene } from "../support/worker_scene.js";

const record = literalRecord();

for (const code of ["EIO", "EBADF", "ENOMEM"]) {
  test(`what was promised cannot be sent, ${code}: the client is reset, where the last byte has left`, async (t) => {
    const scene = new WorkerScene(t);
    const connection = scene.live(record);
    scene.native.handlers?.onError(code);
    t.true(connection.isOver);
    const { serverSeq, clientSeq } = record.tcp;
    t.like(scene.resets, [{ seq: serverSeq, ack: clientSeq }]);
    t.truthy((scene.guard.entries.get(flowKey(record.flow))?.flags ?? 0) & guardFlag.RST_ASKED);
    t.true(connection.history.entries.some(({ what, detail }) => what === "reset" && detail.includes(code)));
    await eventually("its record is gone", () => !scene.bucket.records.has(record.id));
  });
}

for (const code of ["ECONNRESET", "EPIPE", "ETIMEDOUT"]) {
  test(`the client has gone, ${code}: nothing is said`, (t) => {
    const scene = new WorkerScene(t);
    const connection = scene.live(record);
    scene.native.handlers?.onError(code);
    t.true(connection.isOver);
    t.deepEqual(scene.resets, []);
  });
}

test("what no other server could go on with is logged once with its connection, and counted; not where nothing is protected", (t) => {
  const lines: Array<[string, unknown]> = [];
  const log = {
    info: (line: object) => lines.push(["info", line]),
    debug: (line: object) => lines.push(["debug", line]),
  };
  const scene = new WorkerScene(t);
  const exposures = new Exposures(log as unknown as Logger);
  Object.assign(scene.host, { exposures });
  const about = { method: "POST", target: "/o" };
  const connection = scene.live(record);
  connection.exposed({ reason: "a", about, passes: false });
  connection.exposed({ reason: "b", about, passes: true });
  Object.assign(connection.identity, { recorded: false });
  connection.exposed({ reason: "a", about, passes: false });
  t.deepEqual(lines, [
    ["info", { connection: record.id, ...about, reason: "a" }],
    ["debug", { connection: record.id, ...about, reason: "b" }],
  ]);
  t.deepEqual(exposures.tally.entries, [
    ["a", 1],
    ["b", 1],
  ]);
});

test("an undone freeze of a full connection reads nothing more", async (t) => {
  const scene = new WorkerScene(t);
  const connection = scene.live(record);
  scene.native.handlers?.onInput(Buffer.alloc(70_000));
  await eventually("it is protected", () => connection.protectionGap === "");
  t.true(scene.native.paused);
  await t.throwsAsync(connection.freeze(), { message: "nothing is captured here" });
  t.is(connection.phase.phase, "LIVE");
  t.true(scene.native.paused);
});

test("a freeze that fails at any step leaves nothing frozen", async (t) => {
  const scene = new WorkerScene(t);
  const control = { ...record, bundleId: record.id };
  const calls: string[] = [];
  const frozen = (what: string) => (bundle: string) => void calls.push(`${what} ${bundle}`);
  Object.assign(scene.host.bundles, { freeze: frozen("freeze"), thaw: frozen("thaw") });
  const connection = scene.live(control);
  const isLive = () => scene.guard.lookup(record.flow)?.phase === "LIVE" && connection.phase.phase === "LIVE";
  await eventually("it is protected", () => connection.protectionGap === "");
  scene.native.noDetaching = new Error("its descriptor is another's");
  await t.throwsAsync(connection.freeze(), { message: "its descriptor is another's" });
  t.true(isLive());
  t.deepEqual(calls, []);
  scene.native.noDetaching = undefined;
  await t.throwsAsync(connection.freeze(), { message: "nothing is captured here" });
  t.true(isLive());
  t.deepEqual(calls, [`freeze ${record.id}`, `thaw ${record.id}`]);
});

/** Above what a busy machine may take from one line to the next. */
const IDLE_MS = 300;

test("a client that vanishes in the middle of its request is idle, unless it is waiting for us", async (t) => {
  const scene = new WorkerScene(t);
  let waits = false;
  const ends: unknown[] = [];
  scene.layer = {
    unmovable: () => "a request is being executed",
    awaitsClient: () => waits,
    inputEnd: (isLate) => void ends.push(isLate),
  };
  const connection = scene.live(record);
  await eventually("it is protected", () => connection.protectionGap === "");
  const tickLater = async () => {
    await new Promise((resolve) => setTimeout(resolve, 2 * IDLE_MS));
    connection.tick(IDLE_MS);
  };
  await tickLater();
  t.deepEqual(ends, [], "the upstream has not taken all of it");
  waits = true;
  scene.bucket.trouble = new Error("the store is away");
  connection.commit();
  await tickLater();
  t.deepEqual(ends, [], "it has no ack");
  scene.bucket.trouble = undefined;
  const commits = scene.bucket.commits;
  await eventually("it has", () => scene.bucket.commits > commits);
  await new Promise((resolve) => setImmediate(resolve));
  connection.tick(IDLE_MS);
  t.deepEqual(ends, [], "its time begins anew");
  await tickLater();
  t.deepEqual(ends, [true]);
});
