import "../support/quiet.js";
import test from "ava";
import { Arrivals } from "../../agent/migration/arrivals.js";
import { RefusedError } from "../../proto/errors.js";
import type { ConnectionRecord } from "../../proto/record.js";
import { literalRecord, WorkerScene } from "../support/worker_scene.js";

const literal = literalRecord();
const object = (objectId: string) => ({ objectId, validator: "sha256:00", objectOffset: 0, length: 100 });
/** Two objects are promised. */
const record: ConnectionRecord = {
  ...literal,
  output: [...literal.output, { offset: 300, object: object("/a") }, { offset: 400, object: object("/b") }],
};
const request = { request: 1, migration: "m", connectionId: record.id };

test("asked whether it could go on with a connection, it opens what is promised and keeps no layers", async (t) => {
  const scene = new WorkerScene(t);
  const arrivals = new Arrivals(scene.table, scene.heir, () => {});
  const closed: string[] = [];
  scene.open = async ({ objectId }) => ({ fd: 3, size: 100, close: () => void closed.push(objectId) });
  scene.stored(record);
  t.like(await arrivals.prepare(request), { ready: true, reason: "" });
  t.deepEqual(scene.layerCalls, ["unready", "undo", "closed"]);
  t.deepEqual(closed, [], "they are for the connection that comes");
  arrivals.cancel("m");
  t.deepEqual(closed, ["/a", "/b"]);
});

test("it could not: nothing stays open of the attempt", async (t) => {
  const scene = new WorkerScene(t);
  const arrivals = new Arrivals(scene.table, scene.heir, () => {});
  const closed: string[] = [];
  scene.open = async ({ objectId }) => {
    if (objectId === "/b") throw new RefusedError("object missing");
    return { fd: 3, size: 100, close: () => void closed.push(objectId) };
  };
  scene.stored(record);
  t.like(await arrivals.prepare(request), { ready: false, reason: "object missing" });
  t.deepEqual(scene.layerCalls, ["unready", "undo", "closed"]);
  t.deepEqual(closed, ["/a"]);
});
