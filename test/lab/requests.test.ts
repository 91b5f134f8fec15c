import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { Capture, factsOf } from "../support/capture.js";
import { Dialer } from "../support/dialer.js";
import { eventually } from "../support/eventually.js";
import { killAgent, signal } from "../support/fault.js";
import { labTest } from "../support/fixture.js";
import { Forger } from "../support/forger.js";
import { CLIENT, CLIENT6, macOf, pidOf, VIP, VIP6 } from "../support/host.js";
import { get, ResponseReader } from "../support/http.js";

const { test, lab } = labTest();

interface Scene {
  socket: Socket;
  reader: ResponseReader;
  port: number;
  capture: Capture;
}

/** One connection under capture; afterwards it must have been one, and nobody but the client may have ended it. */
async function scene(
  t: { is: (a: unknown, b: unknown, m?: string) => void; deepEqual: (a: unknown, b: unknown, m?: string) => void },
  play: (scene: Scene) => Promise<void>,
): Promise<void> {
  const capture = await Capture.start();
  const dialer = await Dialer.start();
  const { socket, localPort } = await dialer.connect();
  try {
    await play({ socket, reader: new ResponseReader(socket), port: localPort, capture });
  } finally {
    socket.destroy();
    dialer.close();
  }
  const facts = factsOf(await capture.stop(), localPort);
  t.is(facts.clientIsns.length, 1, "one TCP connection");
  t.deepEqual(
    facts.resets.filter((one) => !one.fromClient),
    [],
    "no reset of the server's",
  );
  const closedUs = facts.clientFins[0]?.timeUs ?? Number.POSITIVE_INFINITY;
  t.deepEqual(
    facts.serverFins.filter((one) => one.timeUs < closedUs),
    [],
    "no FIN of the server's ahead of the client's own",
  );
}

async function killOwner(port: number): Promise<string> {
  const { owner } = await lab.control.connectionOf(port);
  killAgent(owner);
  return owner;
}

// At once: its packets are held. Later: its server's slot is closed, and another one gets the connection's first packet.
for (const [name, silentMs] of [
  ["speaks at once", 0],
  ["speaks when all is over", 1500],
] as const) {
  test(`killed between the handshake and the first commit, the client ${name}`, async (t) => {
    await scene(t, async ({ socket, reader, port, capture }) => {
      // Who got it is seen on the wire: there may be no record to ask for.
      const handshake = await eventually(
        "the SYN-ACK",
        () => capture.segments.find((one) => !one.fromClient && one.syn && one.client.port === port),
        10_000,
        1,
      );
      const owner = ["s1", "s2", "s3"].find((server) => macOf(server) === handshake.mac)!;
      killAgent(owner);
      await delay(silentMs);
      socket.write(get("/1m.bin"));
      t.is((await reader.next()).sha256, await lab.digestOf("1m.bin"));
    });
  });
}

test("killed while the request is half received", async (t) => {
  await scene(t, async ({ socket, reader, port }) => {
    const request = get("/1m.bin", { "x-padding": "p".repeat(600) });
    socket.write(request.slice(0, 300));
    const before = await lab.control.connectionOf(port, (one) => one.bytesReceived >= 300);
    killAgent(before.owner);
    await lab.control.connectionOf(port, (one) => one.owner !== before.owner && one.phase === "LIVE");
    socket.write(request.slice(300));
    t.is((await reader.next()).sha256, await lab.digestOf("1m.bin"));
  });
});

for (const [name, earlier] of [
  ["the first", 0],
  ["a later", 1],
] as const) {
  test(`killed between ${name} request and its response`, async (t) => {
    await scene(t, async ({ socket, reader, port, capture }) => {
      for (let i = 0; i < earlier; i++) {
        socket.write(get("/1k.bin"));
        t.is((await reader.next()).sha256, await lab.digestOf("1k.bin"));
      }
      const { owner } = await lab.control.connectionOf(port);
      // With the store stopped nothing can be committed, so nothing is answered; shorter than a lease.
      const nats = pidOf("lb1", "nats");
      signal(nats, "SIGSTOP");
      try {
        const request = get("/1m.bin");
        socket.write(request);
        await eventually("the request is on the wire", () =>
          capture.segments.some((one) => one.fromClient && one.client.port === port && one.payload === request.length),
        );
        killAgent(owner);
      } finally {
        signal(nats, "SIGCONT");
      }
      t.is((await reader.next()).sha256, await lab.digestOf("1m.bin"));
    });
  });
}

test("a second request on the kept-alive connection after a takeover in the first", async (t) => {
  await scene(t, async ({ socket, reader, port }) => {
    socket.write(get("/100m.bin"));
    t.is((await reader.head()).status, 200);
    await killOwner(port);
    t.is(await reader.digest(100 * 1024 * 1024), await lab.digestOf("100m.bin"));
    for (const path of ["1k.bin", "1m.bin"]) {
      socket.write(get(`/${path}`));
      t.is((await reader.next()).sha256, await lab.digestOf(path));
    }
  });
});

test("pipelined requests: every one is answered once, in order", async (t) => {
  await scene(t, async ({ socket, reader, port }) => {
    const files = ["10m.bin", "1k.bin", "100k.bin", "10m.bin", "1m.bin", "1k.bin"];
    socket.write(files.map((name) => get(`/${name}`)).join(""));
    t.is((await reader.head()).status, 200);
    await killOwner(port);
    t.is(await reader.digest(10 * 1024 * 1024), await lab.digestOf("10m.bin"));
    for (const name of files.slice(1)) t.is((await reader.next()).sha256, await lab.digestOf(name), name);
  });
});

test("far more pipelined requests than are answered ahead: each is answered, none is waited for in vain", async (t) => {
  await scene(t, async ({ socket, reader, port }) => {
    const wanted = await lab.digestOf("1k.bin");
    const requests = 300;
    socket.write(get("/1k.bin").repeat(requests));
    for (let i = 0; i < requests; i++) {
      t.is((await reader.next()).sha256, wanted);
      if (i === requests / 2) await killOwner(port);
    }
  });
});

test("a range that is being sent goes on at its own place", async (t) => {
  await scene(t, async ({ socket, reader, port }) => {
    socket.write(get("/100m.bin", { range: "bytes=1000003-90000007" }));
    const head = await reader.head();
    t.is(head.status, 206);
    t.is(head.headers["content-range"], "bytes 1000003-90000007/104857600");
    await killOwner(port);
    t.is(await reader.digest(89_000_005), await lab.digestOf("100m.bin", 1_000_003, 90_000_008));
  });
});

for (const [family, ends] of Object.entries({
  IPv4: { local: { address: CLIENT, port: 39_001 }, remote: { address: VIP, port: 80 } },
  IPv6: { local: { address: CLIENT6, port: 39_002 }, remote: { address: VIP6, port: 80 } },
})) {
  test(`a connection that nobody has is reset, exactly and not at once: ${family}`, async (t) => {
    const capture = await Capture.start();
    const forger = await Forger.start();
    const segment = { ...ends, seq: 1000, ack: 5000, flags: 0x18, window: 512, payload: Buffer.from("GET ") };
    await forger.send(segment);
    const reset = await eventually("the reset", () =>
      capture.segments.find((one) => !one.fromClient && one.rst && one.client.port === ends.local.port),
    );
    t.is(reset.seq, segment.ack);
    const sent = capture.segments.find((one) => one.fromClient && one.client.port === ends.local.port)!;
    t.true(reset.timeUs - sent.timeUs > 300_000, "a record that is on its way has time to arrive");
    forger.close();
    await capture.stop();
  });
}
