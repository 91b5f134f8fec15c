import "../support/quiet.js";
import test from "ava";
import { Arrivals } from "../../agent/migration/arrivals.js";
import { BatonError, RefusedError } from "../../proto/errors.js";
import { type ConnectionRecord, encodeRecord } from "../../proto/record.js";
import type { HandoverReply, SocketState } from "../../proto/rpc/index.js";
import { add } from "../../proto/sequence.js";
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
  scene.open = async ({ objectId }) => ({ fd: 3, close: () => void closed.push(objectId) });
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
    return { fd: 3, close: () => void closed.push(objectId) };
  };
  scene.stored(record);
  t.like(await arrivals.prepare(request), { ready: false, reason: "object missing" });
  t.deepEqual(scene.layerCalls, ["unready", "undo", "closed"]);
  t.deepEqual(closed, ["/a"]);
});

/** As the former owner has it: all was sent and acknowledged, and `unread` came behind the record's input. */
function stateOf({ tcp, consumed }: ConnectionRecord, unread: Buffer): SocketState {
  return {
    ...{ sendUna: add(tcp.serverIsn, 301), sendNext: add(tcp.serverIsn, 301) },
    ...{ windowWl1: add(tcp.clientIsn, 1 + consumed), windowSend: 65_535, windowMax: 65_535 },
    ...{ timestampClock: 7, timestampUsec: false, nodelay: true, keepalive: false, keepIdleS: 0 },
    ...{ keepIntervalS: 0, keepCount: 0, congestion: "bbr", acknowledged: add(tcp.clientIsn, 1 + consumed), echo: 9 },
    unread,
  };
}

async function arrival(scene: WorkerScene, frozen: ConnectionRecord, unread: Buffer): Promise<HandoverReply> {
  scene.stored(literal);
  const arrivals = new Arrivals(scene.table, scene.heir, () => {});
  const handover = {
    ...{
      migration: "m",
      record: encodeRecord(frozen),
      revision: 7,
      socket: stateOf(frozen, unread),
      deadlineMs: 1_000,
      related: [],
    },
  };
  let said: HandoverReply | undefined;
  await arrivals.arrive(handover, (reply) => {
    said = reply;
  });
  return said!;
}

test("input that nobody had read arrives unread: in the socket, not acknowledged, and not in the record", async (t) => {
  const scene = new WorkerScene(t);
  const unread = Buffer.from("not read yet");
  const consumed = add(literal.tcp.clientIsn, 1 + literal.consumed);
  const behind = add(consumed, unread.length);
  t.like(await arrival(scene, literal, unread), { committed: true });
  t.like(scene.native.rebuilt[0], { receiveNext: behind, receiveQueue: unread });
  t.like(scene.guard.lookup(literal.flow), { phase: "LIVE", consumed, kernelAck: behind });
  t.like(scene.native.sent[0], { ack: behind }, "the guard clamps it, and remembers that more is to be acknowledged");
  t.is(scene.table.get(literal.id)?.describe().bytesReceived, literal.consumed);
});

test("a spool that is full already arrives with its input paused", async (t) => {
  const spool = Buffer.alloc(65_536, "s");
  const full = { ...literal, spool, consumed: literal.processed + spool.length };
  const scene = new WorkerScene(t);
  t.like(await arrival(scene, full, Buffer.alloc(0)), { committed: true });
  t.true(scene.native.paused);
});

test("a record that the store never takes does not arrive", async (t) => {
  const scene = new WorkerScene(t);
  scene.bucket.trouble = new BatonError("STORE_TOO_SMALL", "too large");
  t.like(await arrival(scene, literal, Buffer.alloc(0)), { committed: false, reason: "too large" });
  t.is(scene.table.size, 0);
  t.is(scene.guard.lookup(literal.flow), undefined);
});
