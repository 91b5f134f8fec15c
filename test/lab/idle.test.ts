import { createHash } from "node:crypto";
import { Capture, factsOf } from "../support/capture.js";
import { Dialer } from "../support/dialer.js";
import { eventually } from "../support/eventually.js";
import { cutLink, killAgent } from "../support/fault.js";
import { assertOneConnection, labTest } from "../support/fixture.js";
import { get, ResponseReader } from "../support/http.js";
import { labHeal } from "../support/lab.js";

const { test, lab } = labTest();
const MIB = 1024 * 1024;

/** Kills the owner of a client's connection and waits until another server has it. */
async function takeOver(port: number, fault: (owner: string) => unknown = killAgent): Promise<void> {
  const before = await lab.control.connectionOf(port, (one) => one.protected);
  await fault(before.owner);
  await lab.control.connectionOf(port, (one) => one.owner !== before.owner && one.phase === "LIVE", 10_000);
}

for (const [name, fault] of Object.entries({ "agent killed": killAgent, "host cut off": cutLink })) {
  test(`an idle client that has acknowledged everything keeps its connection: ${name}`, async (t) => {
    const capture = await Capture.start();
    const dialer = await Dialer.start();
    const { socket, localPort } = await dialer.connect();
    const reader = new ResponseReader(socket);
    socket.write(get("/1m.bin"));
    t.is((await reader.next()).sha256, await lab.digestOf("1m.bin"));

    await takeOver(localPort, fault);
    socket.write(get("/100k.bin"));
    t.is((await reader.next()).sha256, await lab.digestOf("100k.bin"), "the same connection answers the next request");

    socket.destroy();
    dialer.close();
    const facts = factsOf(await capture.stop(), localPort);
    t.is(facts.clientIsns.length, 1);
    t.is(facts.senders.length, 2);
    t.deepEqual(
      facts.resets.filter((one) => !one.fromClient),
      [],
    );
  });
}

test("an idle client keeps its connection through one takeover after the other, without a byte in between", async (t) => {
  const dialer = await Dialer.start();
  const { socket, localPort } = await dialer.connect();
  const reader = new ResponseReader(socket);
  socket.write(get("/1m.bin"));
  t.is((await reader.next()).sha256, await lab.digestOf("1m.bin"));
  for (const fault of [killAgent, cutLink]) await takeOver(localPort, fault);
  await labHeal();
  await takeOver(localPort);
  socket.write(get("/100k.bin"));
  t.is((await reader.next()).sha256, await lab.digestOf("100k.bin"));
  socket.destroy();
  dialer.close();
});

test("a slow reader whose window is shut", async (t) => {
  const capture = await Capture.start();
  const dialer = await Dialer.start();
  const { socket, localPort } = await dialer.connect();
  const reader = new ResponseReader(socket);
  socket.write(get("/100m.bin", {}, "GET"));
  const hash = createHash("sha256");
  // The head and a first part of the body; then nobody reads until the window is shut.
  const head = await reader.head();
  t.is(head.status, 200);
  await reader.read(MIB, hash);
  await eventually("the client's window is shut", () =>
    capture.segments.some((one) => one.fromClient && one.client.port === localPort && !one.syn && one.window === 0),
  );
  await takeOver(localPort);
  await reader.read(99 * MIB, hash);
  t.is(hash.digest("hex"), await lab.digestOf("100m.bin"));
  socket.destroy();
  dialer.close();
  const facts = factsOf(await capture.stop(), localPort);
  t.is(facts.clientIsns.length, 1);
  t.deepEqual(
    facts.resets.filter((one) => !one.fromClient),
    [],
  );
});

test("a client that has closed its half before the kill gets the rest", async (t) => {
  const capture = await Capture.start();
  const dialer = await Dialer.start();
  const { socket, localPort } = await dialer.connect();
  const reader = new ResponseReader(socket);
  socket.end(get("/100m.bin"));
  const hash = createHash("sha256");
  t.is((await reader.head()).status, 200);
  await reader.read(MIB, hash);
  await eventually("the client's FIN is acknowledged", () => {
    const fin = capture.segments.find((one) => one.fromClient && one.client.port === localPort && one.fin);
    return fin && capture.segments.some((one) => !one.fromClient && one.ack === (fin.seq + fin.payload + 1) >>> 0);
  });
  await takeOver(localPort);
  await reader.read(99 * MIB, hash);
  t.is(hash.digest("hex"), await lab.digestOf("100m.bin"));
  t.true(await reader.ended(), "then the server closes as well");
  dialer.close();
  assertOneConnection(t, factsOf(await capture.stop(), localPort));
});
