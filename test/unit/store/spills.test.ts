import "../../support/quiet.js";
import { DiscardPolicy, type JetStreamManager, jetstreamManager, RetentionPolicy } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import test, { type ExecutionContext } from "ava";
import type { BucketContext } from "../../../proto/store/bucket.js";
import { connectStore, StoreRefusal } from "../../../proto/store/index.js";
import { Spills } from "../../../proto/store/spills.js";
import { NatsServer } from "./_nats_server.js";

const STREAM = Buffer.from(Array.from({ length: 5_000 }, (_, at) => at % 251));

async function setUp(t: ExecutionContext, spillBytesMax = 1_048_576) {
  const nats = await NatsServer.start();
  const store = await connectStore({ servers: nats.url, name: "test", spillBytesMax, commitDeadlineMs: 1_000 });
  t.teardown(async () => {
    await store.close();
    await nats.stop();
  });
  const { spills } = store;
  let writes = 0;
  const append = (id: string, from: number, to: number) =>
    spills.append(id, from, STREAM.subarray(from, to), `m${++writes}`);
  const read = (id: string, from: number, to: number) => readAll(spills, id, from, to);
  return { nats, spills, append, read };
}

async function readAll(spills: Spills, id: string, from: number, to: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const { bytes } of spills.read(id, from, to)) parts.push(bytes);
  return Buffer.concat(parts);
}

async function managerOf(t: ExecutionContext, nats: NatsServer): Promise<JetStreamManager> {
  const connection = await connect({ servers: nats.url });
  t.teardown(() => connection.close());
  return jetstreamManager(connection);
}

/** The same stream, where every direct get is answered by a replica that has none of it. */
async function behindStale(t: ExecutionContext, nats: NatsServer): Promise<Spills> {
  const { streams } = await managerOf(t, nats);
  const manager = { streams, direct: { getMessage: async () => null } } as unknown as JetStreamManager;
  return new Spills({ manager } as BucketContext);
}

test("what is read is the client's stream, whatever the pieces, from and to any byte", async (t) => {
  const { append, read } = await setUp(t);
  await append("a", 100, 1_000);
  await append("b", 0, 50);
  await append("a", 1_000, 1_500);
  await append("a", 1_200, 1_400); // of another owner, which had them as well
  await append("a", 1_400, 3_000);
  t.deepEqual(await read("a", 100, 3_000), STREAM.subarray(100, 3_000));
  t.deepEqual(await read("a", 777, 1_450), STREAM.subarray(777, 1_450));
  t.deepEqual(await read("a", 1_000, 1_001), STREAM.subarray(1_000, 1_001));
});

test("what is not all there is not made up", async (t) => {
  const { append, read } = await setUp(t);
  await append("a", 100, 200);
  await append("a", 250, 300);
  for (const [from, to] of [
    [50, 150],
    [100, 300],
    [250, 301],
  ] as const) {
    await t.throwsAsync(read("a", from, to), { code: "NOT_FOUND" }, `${from}`);
  }
});

test("a piece that lies further on is passed over: the wanted one may follow in the stream", async (t) => {
  const { append, read } = await setUp(t);
  await append("a", 0, 1_000);
  await append("a", 3_000, 4_000); // of an owner that was fenced before a record said so
  await append("a", 1_000, 2_500);
  await append("a", 2_500, 3_500);
  t.deepEqual(await read("a", 0, 3_500), STREAM.subarray(0, 3_500));
});

test("what the replica that answers does not have yet is had of the leader", async (t) => {
  const { nats, append } = await setUp(t);
  const stale = await behindStale(t, nats);
  await append("a", 0, 1_000);
  await append("a", 1_000, 2_000);
  t.deepEqual(await readAll(stale, "a", 500, 2_000), STREAM.subarray(500, 2_000));
  await t.throwsAsync(readAll(stale, "a", 500, 2_001), { code: "NOT_FOUND" });
});

test("what is purged is gone, and nothing of others", async (t) => {
  const { spills, append, read } = await setUp(t);
  const first = await append("a", 0, 100);
  await append("a", 100, 200);
  await append("b", 0, 100);
  await spills.purge("a", first);
  await t.throwsAsync(read("a", 0, 100), { code: "NOT_FOUND" });
  t.is((await read("a", 100, 200)).length, 100);
  await spills.purge("a");
  await t.throwsAsync(read("a", 100, 200), { code: "NOT_FOUND" });
  t.is((await read("b", 0, 100)).length, 100);
});

test("what cannot be purged now is purged later", async (t) => {
  const tried: unknown[] = [];
  const purge = async (_stream: string, what: unknown) => {
    if (tried.push(what) < 3) throw new Error("no answer");
  };
  const alive = setInterval(() => {}, 1_000); // its own pauses keep no process
  t.teardown(() => clearInterval(alive));
  await new Spills({ manager: { streams: { purge } } as unknown as JetStreamManager } as BucketContext).purge("a", 7);
  t.deepEqual(tried, Array(3).fill({ filter: "baton.spill.a", seq: 8 }));
});

test("where there is no room it is refused at once, and there is room again when something is gone", async (t) => {
  const { spills, append } = await setUp(t, 8_192);
  await append("a", 0, 5_000);
  const startedAt = performance.now();
  await t.throwsAsync(append("b", 0, 5_000), { instanceOf: StoreRefusal });
  t.true(performance.now() - startedAt < 2_000);
  await spills.purge("a");
  await append("b", 0, 5_000);
  t.pass();
});

test("whether the store is away or only the stream is told apart", async (t) => {
  const { nats, append } = await setUp(t);
  const { streams } = await managerOf(t, nats);
  await streams.delete("SPILL");
  await t.throwsAsync(append("a", 0, 100), { code: "STORE_FAILED", message: /SPILL does not answer/ });
  await streams.delete("KV_connections"); // as without a quorum
  await t.throwsAsync(append("a", 0, 100), { code: "STORE_UNAVAILABLE" });
  await nats.kill();
  await t.throwsAsync(append("a", 0, 100), { code: "STORE_UNAVAILABLE" });
});

test("a store without disk for that much is said in a sentence", async (t) => {
  const nats = await NatsServer.start();
  t.teardown(() => nats.stop());
  await t.throwsAsync(connectStore({ servers: nats.url, name: "test", spillBytesMax: 2 ** 50 }), {
    code: "STORE_FAILED",
    message: /lower limits\.spillMegabytes/,
  });
});

test("a stream that is there gets the bounds of the configuration, and nothing in it is lost by that", async (t) => {
  const { nats, append, read } = await setUp(t, 20_000);
  const { streams } = await managerOf(t, nats);
  for (let at = 0; at < 3; at++) await append("a", at * 1_000, at * 1_000 + 1_000);
  for (const [wanted, had] of [
    [40_000, 40_000],
    [10_000, 10_000],
    [2_000, 10_000],
  ] as const) {
    await (await connectStore({ servers: nats.url, name: "other", spillBytesMax: wanted })).close();
    t.is((await streams.info("SPILL")).config.max_bytes, had);
    t.is((await read("a", 0, 3_000)).length, 3_000);
  }
});

test("a stream that is there and would lose pieces is refused", async (t) => {
  for (const wrong of [
    { subjects: ["baton.spill.a"] },
    { discard: DiscardPolicy.Old },
    { retention: RetentionPolicy.Interest },
    { max_msgs_per_subject: 1 },
    { allow_direct: false },
  ]) {
    const nats = await NatsServer.start();
    t.teardown(() => nats.stop());
    const { streams } = await managerOf(t, nats);
    await streams.add({
      ...{ name: "SPILL", subjects: ["baton.spill.>"], discard: DiscardPolicy.New, allow_direct: true },
      ...wrong,
    });
    await t.throwsAsync(
      connectStore({ servers: nats.url, name: "test", spillBytesMax: 1_048_576 }),
      { code: "STORE_FAILED", message: /not as Baton needs it/ },
      JSON.stringify(wrong),
    );
  }
});
