import "../../support/quiet.js";
import test, { type ExecutionContext } from "ava";
import { BatonError } from "../../../proto/errors.js";
import { ConflictError, type ConnectionsHandlers, connectStore, type Store } from "../../../proto/store/index.js";
import { NatsServer } from "./_nats_server.js";

async function setUp(t: ExecutionContext, settings = "", name = "test"): Promise<{ nats: NatsServer; store: Store }> {
  const nats = await NatsServer.start(settings);
  const store = await connectStore({ servers: nats.url, name });
  t.teardown(async () => {
    await store.close();
    await nats.stop();
  });
  return { nats, store };
}

async function until(what: () => boolean, ms = 5_000): Promise<void> {
  const deadline = performance.now() + ms;
  while (!what()) {
    if (performance.now() > deadline) throw new Error(`not reached in ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** What a watch said, in order, as text. */
function listen(store: Store): {
  said: string[];
  view: Map<string, string>;
  handlers: ConnectionsHandlers;
  close(): void;
} {
  const said: string[] = [];
  const view = new Map<string, string>();
  const handlers: ConnectionsHandlers = {
    onRecord: (id, revision, bytes) => {
      said.push(`record ${id} ${revision}`);
      view.set(id, Buffer.from(bytes).toString());
    },
    onRemoved: (id) => {
      said.push(`removed ${id}`);
      view.delete(id);
    },
    onLead: (name, _revision, holder) => said.push(`lead ${name} ${holder}`),
    onTakeover: (key) => said.push(`takeover ${key}`),
    onCaughtUp: () => said.push("caught up"),
  };
  const watch = store.connections.watch(handlers);
  return { said, view, handlers, close: () => watch.close() };
}

const bytes = (text: string) => Buffer.from(text);

test("a commit names what it replaces; the loser learns what is there", async (t) => {
  const { store } = await setUp(t);
  const first = await store.connections.commit("a", bytes("1"), 0, "m1");
  const second = await store.connections.commit("a", bytes("2"), first, "m2");
  t.true(second > first);
  const error = await t.throwsAsync(store.connections.commit("a", bytes("3"), first, "m3"), {
    instanceOf: ConflictError,
  });
  t.is(error.code, "STORE_CONFLICT");
  t.is(error.present.revision, second);
  t.is(Buffer.from(error.present.bytes).toString(), "2");
  t.is(error.present.messageId, "m2");
});

test("the same message id twice is one write", async (t) => {
  const { store } = await setUp(t);
  const first = await store.connections.commit("a", bytes("1"), 0, "m1");
  t.is(await store.connections.commit("a", bytes("1"), 0, "m1"), first);
  t.is((await store.connections.read("a")).revision, first);
});

test("a lost comparison against our own write is a success", async (t) => {
  const { store } = await setUp(t);
  const revision = await store.connections.commit("a", bytes("mine"), 0, "m1");
  const again = await store.connections.commit(
    "a",
    bytes("mine"),
    0,
    "m2",
    (b) => Buffer.from(b).toString() === "mine",
  );
  t.is(again, revision);
  await t.throwsAsync(
    store.connections.commit("a", bytes("x"), 0, "m3", () => false),
    { instanceOf: ConflictError },
  );
});

test("a tombstone is a revision of its own, and trimming takes it out", async (t) => {
  const { store } = await setUp(t);
  const heard = listen(store);
  const revision = await store.connections.commit("a.b", bytes("1"), 0, "m1");
  await t.throwsAsync(store.connections.remove("a.b", revision + 1), { instanceOf: ConflictError });
  const tombstone = await store.connections.remove("a.b", revision);
  const present = await store.connections.read("a.b");
  t.true(present.removed);
  t.is(present.revision, tombstone);
  const error = await t.throwsAsync(store.connections.commit("a.b", bytes("2"), 0, "m2"), {
    instanceOf: ConflictError,
  });
  t.true(error.present.removed);
  await until(() => heard.said.includes("removed a.b"));
  t.is(store.connections.tombstones, 1);
  t.is(await store.connections.trimTombstones(60_000), 0, "too young");
  t.is(await store.connections.eraseTombstones(Date.now() + 1_000, 10), 1);
  t.deepEqual(await store.connections.read("a.b"), {
    revision: 0,
    bytes: new Uint8Array(0),
    removed: false,
    messageId: "",
  });
});

test("a watch sees what was there, then everything, in the stream's order", async (t) => {
  const { store } = await setUp(t);
  const revision = await store.connections.commit("a", bytes("1"), 0, "m1");
  await store.connections.commit("b", bytes("1"), 0, "m2");
  const heard = listen(store);
  await until(() => heard.said.includes("caught up"));
  t.deepEqual(heard.said, ["record a 1", "record b 2", "caught up"]);
  await store.connections.commit("a", bytes("2"), revision, "m3");
  await store.connections.commitTakeover("s1", 4, bytes("t"), 0);
  await store.connections.remove("b", 2);
  await until(() => heard.said.length === 6);
  t.deepEqual(heard.said.slice(3), ["record a 3", "takeover s1.4", "removed b"]);
});

test("a lead goes from one to another, and is seen behind what was recorded before", async (t) => {
  const { store } = await setUp(t);
  const heard = listen(store);
  await store.connections.commit("a", bytes("1"), 0, "m1");
  const revision = await store.connections.commitLead("239-1-2-3", "a", 0);
  await t.throwsAsync(store.connections.commitLead("239-1-2-3", "b", 0), { instanceOf: ConflictError });
  await store.connections.commitLead("239-1-2-3", "b", revision);
  await until(() => heard.said.length === 4);
  t.deepEqual(
    heard.said.filter((one) => one !== "caught up"),
    ["record a 1", "lead 239-1-2-3 a", "lead 239-1-2-3 b"],
  );
});

test("a watch of an empty bucket is caught up at once", async (t) => {
  const { store } = await setUp(t);
  const heard = listen(store);
  await until(() => heard.said.length > 0);
  t.deepEqual(heard.said, ["caught up"]);
});

test("the server killed under load: acknowledged commits survive, unanswered ones are finished, no watch misses one", async (t) => {
  const { nats, store } = await setUp(t);
  const other = await connectStore({ servers: nats.url, name: "other" });
  t.teardown(() => other.close());
  const heard = listen(other);
  const keys = 40;
  const acknowledged = new Map<string, string>();
  let running = true;
  const writer = async (key: string) => {
    let revision = 0;
    for (let i = 1; running; i++) {
      revision = await store.connections.commit(key, bytes(String(i)), revision, `${key}/${i}`);
      acknowledged.set(key, String(i));
    }
  };
  const writers = Array.from({ length: keys }, (_, i) => writer(`k${i}`));
  for (let round = 0; round < 3; round++) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    await nats.kill();
    t.true(acknowledged.size === keys);
    await new Promise((resolve) => setTimeout(resolve, 100));
    await nats.up();
  }
  await new Promise((resolve) => setTimeout(resolve, 500));
  running = false;
  await Promise.all(writers);
  await until(() => [...acknowledged].every(([key, value]) => heard.view.get(key) === value));
  for (const [key, value] of acknowledged) {
    t.is(Buffer.from((await store.connections.read(key)).bytes).toString(), value);
  }
  const revisions = heard.said.filter((line) => line.startsWith("record")).map((line) => Number(line.split(" ")[2]));
  t.true(
    revisions.every((revision, i) => i === 0 || revision > (revisions[i - 1] ?? 0)),
    "strictly ascending",
  );
});

test("what was removed while a store lost its disk is reported as removed", async (t) => {
  const { nats, store } = await setUp(t);
  await store.connections.commit("a", bytes("1"), 0, "m1");
  const heard = listen(store);
  await until(() => heard.said.includes("caught up"));
  await nats.kill();
  nats.forget();
  await nats.up();
  await until(() => heard.said.includes("removed a"));
  await store.connections.commit("b", bytes("1"), 0, "m2");
  await until(() => heard.view.has("b"));
  t.deepEqual([...heard.view.keys()], ["b"]);
});

test("a write is given up at its deadline when the store is gone, and says so", async (t) => {
  const nats = await NatsServer.start();
  t.teardown(() => nats.stop());
  const store = await connectStore({ servers: nats.url, name: "test", commitDeadlineMs: 300 });
  t.teardown(() => store.close());
  const gone = new Promise<void>((resolve) => store.once("disconnected", resolve));
  await nats.kill();
  await gone;
  t.false(store.connected);
  const error = await t.throwsAsync(store.connections.commit("a", bytes("1"), 0, "m1"), { instanceOf: BatonError });
  t.is(error.code, "STORE_UNAVAILABLE");
  t.is(store.pending, 0);
  const back = new Promise<void>((resolve) => store.once("connected", resolve));
  await nats.up();
  await back;
  t.is(await store.connections.commit("a", bytes("1"), 0, "m2"), 1);
});

test("a stopped server answers everything once it goes on, each write once", async (t) => {
  const { nats, store } = await setUp(t);
  await store.connections.commit("a", bytes("1"), 0, "m1");
  await nats.freeze();
  const commit = store.connections.commit("a", bytes("2"), 1, "m2");
  await until(() => store.resent > 0);
  nats.signal("SIGCONT");
  t.is(await commit, 2);
  t.is(await store.connections.commit("a", bytes("3"), 2, "m3"), 3);
});

test("a store that is not there yet is waited for, and that is said", async (t) => {
  const nats = await NatsServer.start();
  t.teardown(() => nats.stop());
  await nats.kill();
  const said: string[] = [];
  const connecting = connectStore({ servers: nats.url, name: "test", onWaiting: (sentence) => said.push(sentence) });
  await new Promise((resolve) => setTimeout(resolve, 1_300));
  t.is(said.length, 2, "at once and a second later");
  t.regex(said[0] ?? "", /cannot be reached yet/);
  await nats.up();
  const store = await connecting;
  t.true(store.connected);
  await store.close();
});

test("a watched lease carries the instant at which it arrived", async (t) => {
  const { store } = await setUp(t);
  const seen: Array<{ renewal: number; arrivedNs: bigint }> = [];
  store.leases.watch({
    onLease: ({ lease }, arrivedNs) => seen.push({ renewal: lease.renewal, arrivedNs }),
    onCaughtUp: () => {},
  });
  const before = process.hrtime.bigint();
  const lease = { server: "s1", incarnation: 1, state: "alive" as const, renewal: 7, boot: "b" };
  const revision = await store.leases.put(lease, 0, { messageId: "l1", deadlineMs: 1_000 });
  await until(() => seen.length === 1);
  t.is(seen[0]?.renewal, 7);
  t.true((seen[0]?.arrivedNs ?? 0n) > before && (seen[0]?.arrivedNs ?? 0n) <= process.hrtime.bigint());
  t.deepEqual(await store.leases.read("s1"), { lease, revision });
  t.deepEqual(await store.leases.read("s2"), { lease: undefined, revision: 0 });
});

test("a handler that throws costs its own message, not the watch", async (t) => {
  const { store } = await setUp(t);
  const said: string[] = [];
  let interruptions = 0;
  store.connections.watch({
    onRecord: (id) => {
      if (id === "odd") throw new Error("cannot be read");
      said.push(id);
    },
    onRemoved: () => {},
    onTakeover: () => {},
    onCaughtUp: () => {},
    onInterrupted: () => interruptions++,
  });
  for (const id of ["a", "odd", "b"]) await store.connections.commit(id, bytes("1"), 0, id);
  await until(() => said.includes("b"));
  t.deepEqual(said, ["a", "b"]);
  t.is(store.passedOver, 1);
  t.true(store.connected);
  await store.connections.commit("c", bytes("1"), 0, "c");
  await until(() => said.includes("c"));
  t.is(interruptions, 0);
});

test("what is larger than the servers take is refused for good, at the start already", async (t) => {
  const { nats, store } = await setUp(t, "max_payload: 16384");
  await t.throwsAsync(store.connections.commit("a", Buffer.alloc(20_000), 0, "m1"), { code: "STORE_TOO_SMALL" });
  await store.connections.commit("a", Buffer.alloc(10_000), 0, "m2");
  const error = await t.throwsAsync(connectStore({ servers: nats.url, name: "large", messageBytesMax: 20_000 }), {
    code: "STORE_TOO_SMALL",
  });
  t.regex(error?.message ?? "", /takes messages of 16384 bytes.*raise max_payload.*limits\.inputBytes/);
});
