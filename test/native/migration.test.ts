import test, { type ExecutionContext } from "ava";
import type { SocketImage } from "../../agent/native/index.js";
import { add } from "../../proto/sequence.js";
import { Witness } from "../support/witness.js";
import type { functions as clientFunctions } from "./hosts/client.js";
import { Host } from "./hosts/host.js";
import { addresses, type Family, families, Network } from "./hosts/network.js";
import type { functions as serverFunctions } from "./hosts/server.js";

const FIN_WAIT1 = 4;
const FIN_WAIT2 = 5;
const CLOSE_WAIT = 8;

interface Cast {
  network: Network;
  client: Host<typeof clientFunctions>;
  s1: Host<typeof serverFunctions>;
  s2: Host<typeof serverFunctions>;
  vip: string;
}

/** A client that is connected to s1, and s2 that listens on the same address. */
async function play(family: Family, body: (cast: Cast) => Promise<void>): Promise<void> {
  const network = new Network("bt-native-migration");
  const cast: Cast = {
    network,
    client: new Host(network, "client", "client"),
    s1: new Host(network, "s1", "server"),
    s2: new Host(network, "s2", "server"),
    vip: addresses[family].vip,
  };
  try {
    await cast.s1.call.listen(cast.vip, 262_144);
    await cast.s2.call.listen(cast.vip, 262_144);
    await cast.client.call.connect(cast.vip);
    await cast.s1.call.accepted();
    await body(cast);
  } finally {
    await Promise.all([cast.client.kill(), cast.s1.kill(), cast.s2.kill()]);
    network.remove();
  }
}

/** Takes the connection from s1 to s2. @returns what both captures said; the second one is taken before s2 says anything */
async function move({ network, s1, s2 }: Cast): Promise<{ before: SocketImage; after: SocketImage }> {
  const before = await s1.call.capture();
  await s1.call.closeInRepair();
  network.giveVipTo("s2");
  network.open("s2");
  await s2.call.prepare(before);
  await s2.call.rebuild(before);
  const after = await s2.call.capture();
  await s2.call.activate(before);
  return { before, after };
}

function sameConnection(t: ExecutionContext, before: SocketImage, after: SocketImage): void {
  const clock = after.timestampClock - before.timestampClock;
  t.true(clock >= 0 && clock < 1000, `clock moved by ${clock}`);
  // What was not sent yet is put into the new socket when it leaves repair, and counts as unread or unsent until then.
  t.deepEqual(
    { ...after, timestampClock: 0, state: 0, unsentQueue: 0 },
    { ...before, timestampClock: 0, state: 0, unsentQueue: 0 },
  );
}

for (const family of families) {
  test.serial(`${family}: an idle connection is the same on the other server, and goes on there`, async (t) => {
    await play(family, async (cast) => {
      const { before, after } = await move(cast);
      sameConnection(t, before, after);
      t.is(after.state, 1);
      t.is(before.options.receiveBuffer, 262_144);
      await cast.client.call.read();
      await cast.client.call.write("question");
      await cast.s2.call.write("answer", 0);
      t.is(await cast.s2.call.received("question"), 8);
      t.is(Buffer.from(await cast.client.call.received(6)).toString(), "answer");
      await cast.s2.call.fin();
      t.deepEqual(await cast.client.call.ended(), []);
    });
  });

  test.serial(`${family}: bytes in all three queues move along, each once and in order`, async (t) => {
    await play(family, async (cast) => {
      const { client, s1, s2 } = cast;
      await client.call.write("not read by s1");
      // More than the client's window takes: some is acknowledged, some is on its way, some is unsent.
      const sent = Array.from({ length: 400_000 }, (_, i) => `line ${i}\n`).join("");
      await s1.call.connect(0, true);
      await s1.call.write(sent, 0);
      let info = (await s1.call.state()).info;
      for (let last = -1; last !== info.notSentBytes || last === 0; info = (await s1.call.state()).info) {
        last = info.notSentBytes;
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
      const given = (await s1.call.state()).sent;
      await s1.call.detach();
      const witness = await Witness.start(() => cast.network.counters("s2"));
      const { before, after } = await move(cast);
      sameConnection(t, before, after);
      t.is(Buffer.from(before.receiveQueue).toString(), "not read by s1");
      t.true(before.unsentQueue.length > 0);
      t.is(after.unsentQueue.length, 0);
      t.is(Buffer.from(before.unsentQueue).toString(), sent.slice(given - before.unsentQueue.length, given));
      await client.call.read();
      await s2.call.write(sent.slice(given), given);
      await s2.call.fin();
      await client.call.ended();
      t.true(Buffer.from(await client.call.received(sent.length)).equals(Buffer.from(sent)));
      t.is(await s2.call.received("not read by s1"), 14);
      await witness.assertUndisturbed(t);
    });
  });
}

test.serial("a client that has finished: the new socket acknowledges its FIN and sends on", async (t) => {
  await play("IPv4", async (cast) => {
    const { client, s1, s2 } = cast;
    await client.call.write("all there is");
    await client.call.end();
    for (let state = 0; state !== CLOSE_WAIT; ) state = (await s1.call.state()).info.state;
    const { before } = await move(cast);
    t.is(before.state, CLOSE_WAIT);
    t.is(Buffer.from(before.receiveQueue).toString(), "all there is");
    await client.call.read();
    await s2.call.write("the answer", 0);
    t.is(await s2.call.received("all there is"), 12);
    t.is(Buffer.from(await client.call.received(10)).toString(), "the answer");
    await s2.call.fin();
    t.deepEqual(await client.call.ended(), []);
    await s2.call.acknowledged();
    t.is((await s2.call.state()).info.state, FIN_WAIT2);
    await s2.call.closeSilently();
  });
});

test.serial("a FIN of ours that was acknowledged stays the end of the stream", async (t) => {
  await play("IPv4", async (cast) => {
    const { client, s1, s2 } = cast;
    await s1.call.write("everything", 0);
    await s1.call.fin();
    await s1.call.sent(11);
    for (let state = 0; state !== FIN_WAIT2; ) state = (await s1.call.state()).info.state;
    await s1.call.detach();
    const { before, after } = await move(cast);
    t.is(before.state, FIN_WAIT2);
    t.is(after.sendUna, add(before.sendUna, -1));
    await client.call.read();
    t.deepEqual(await client.call.ended(), []);
    t.is(Buffer.from(await client.call.received(10)).toString(), "everything");
    await client.call.write("thanks");
    await s2.call.connect(11);
    t.is(await s2.call.received("thanks"), 6);
    t.is((await s2.call.state()).info.state, FIN_WAIT2);
  });
});

test.serial("a FIN of ours that waits behind unsent bytes moves with them", async (t) => {
  await play("IPv4", async (cast) => {
    const { client, s1 } = cast;
    const sent = "0123456789abcdef".repeat(200_000);
    await s1.call.write(sent, 0);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const { sent: given } = await s1.call.state();
    t.true(given < sent.length);
    const fd = await s1.call.detach();
    t.true(fd > 0);
    await s1.call.shutdown();
    const { before } = await move(cast);
    t.is(before.state, FIN_WAIT1);
    await client.call.read();
    t.deepEqual(await client.call.ended(), []);
    t.is(Buffer.from(await client.call.received(given)).toString(), sent.slice(0, given));
  });
});

test.serial("capture that is resumed leaves no trace; what cannot be captured says so and goes on", async (t) => {
  await play("IPv4", async ({ client, s1 }) => {
    const first = await s1.call.capture();
    await s1.call.resume();
    await client.call.write("abc");
    await s1.call.write("def", 0);
    await client.call.read();
    await s1.call.received("abc");
    t.is(Buffer.from(await client.call.received(3)).toString(), "def");
    await s1.call.acknowledged();
    const second = await s1.call.capture();
    await s1.call.resume();
    t.is(second.sendUna, add(first.sendUna, 3));
    t.is(second.receiveNext, add(first.receiveNext, 3));
  });
});

test.serial(
  "a listener can be opened while rebuilt connections live, and a prepared socket shares its port",
  async (t) => {
    await play("IPv4", async (cast) => {
      const { s2, vip } = cast;
      await move(cast);
      await s2.call.stopListening();
      t.is(await s2.call.listen(vip), 80);
    });
  },
);

test.serial("a rebuild that fails names the step and leaves a silent socket", async (t) => {
  await play("IPv4", async (cast) => {
    const { client, s1 } = cast;
    const image = await s1.call.capture();
    await s1.call.resume();
    // The connection is still there.
    await s1.call.prepare(image);
    t.deepEqual(await s1.call.rebuildBatch(image), [{ code: "EADDRNOTAVAIL", step: "connect" }]);
    await s1.call.closeInRepair();
    t.deepEqual(await client.call.errors(), []);
    const wrong = { ...image, window: { ...image.window, maxWindow: 0 } };
    await cast.s2.call.prepare(image);
    cast.network.open("s2");
    const error = await t.throwsAsync(cast.s2.call.rebuild(wrong));
    t.like(error, { code: "EINVAL", step: "window" });
    await cast.s2.call.closeInRepair();
  });
});

test.serial("orphans of a killed server are destroyed, then the connection can be rebuilt", async (t) => {
  await play("IPv4", async (cast) => {
    const { network, client, s1, vip } = cast;
    await s1.call.write("x".repeat(4_000_000), 0);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const ends = await s1.call.endpoints();
    network.cut("s1");
    await s1.kill();
    const heir: typeof s1 = new Host(network, "s1", "server");
    try {
      t.is(await heir.call.destroyOrphans("10.98.0.99"), 0);
      t.true(await heir.call.destroyOrphan(ends));
      t.false(await heir.call.destroyOrphan(ends));
      t.is(await heir.call.destroyOrphans(vip), 0);
      await heir.call.listen(vip);
      t.false(await heir.call.destroyOrphan(ends), "the listener is no orphan");
      t.deepEqual(await client.call.errors(), []);
    } finally {
      await heir.kill();
    }
  });
});

test.serial("destroyOrphans spares listeners and this process's own connections", async (t) => {
  await play("IPv4", async ({ client, s1, s2, vip }) => {
    t.is(await s1.call.destroyOrphans(vip), 0);
    t.false(await s1.call.destroyOrphan(await s1.call.endpoints()));
    await client.call.read();
    await s1.call.write("alive", 0);
    t.is(Buffer.from(await client.call.received(5)).toString(), "alive");
    t.is(await s2.call.destroyOrphans(vip), 0);
  });
});
