import { createHash } from "node:crypto";
import { Dialer } from "../support/dialer.js";
import { Download } from "../support/download.js";
import { eventually } from "../support/eventually.js";
import { killAgent, signal } from "../support/fault.js";
import { assertSurvived, labTest, watchedDownload } from "../support/fixture.js";
import { halfReadOn } from "../support/half_read.js";
import { countersOf, lives, pidOf } from "../support/host.js";
import { get, ResponseReader } from "../support/http.js";
import { labHeal } from "../support/lab.js";
import { Witness } from "../support/witness.js";

const { test, lab } = labTest();
const FILE = "100m.bin";
const BYTES = 100 * 1024 * 1024;
const MIB = 1024 * 1024;
const SERVERS = ["s1", "s2", "s3"];

const another = (owner: string) => SERVERS[(SERVERS.indexOf(owner) + 1) % SERVERS.length]!;

for (const ipv6 of [false, true]) {
  test(`a download moves to another server and back, and nobody notices: IPv${ipv6 ? 6 : 4}`, async (t) => {
    const witness = await Witness.start();
    const outcome = await watchedDownload(FILE, { rate: "20M", ipv6 }, async (download) => {
      for (let move = 1; move <= 4; move++) {
        await download.reached((BYTES * move) / 6);
        const { id, owner, epoch } = await lab.control.connectionOf(download.port, (one) => one.protected);
        const event = await lab.control.move(id, another(owner));
        t.is(event.result, "ok", event.reason);
        t.log(`held ${event.heldUs} us, ${event.heldPackets} packets`, JSON.stringify(event.phases));
        const after = await lab.control.connectionOf(download.port, (one) => one.owner === another(owner));
        t.is(after.epoch, epoch + 1);
      }
    });
    assertSurvived(t, outcome, await lab.digestOf(FILE));
    t.is(outcome.facts.senders.length, 3);
    await witness.assertUndisturbed(t);
    t.log(`retransmissions of the servers: ${outcome.facts.serverRetransmissions}`);
  });
}

test("a conversation moves between request and response, idle, and in the middle of a request", async (t) => {
  const dialer = await Dialer.start();
  const { socket, localPort } = await dialer.connect();
  const reader = new ResponseReader(socket);
  const move = async () => {
    const { id, owner } = await lab.control.connectionOf(localPort, (one) => one.protected);
    const event = await lab.control.move(id, another(owner));
    t.is(event.result, "ok", event.reason);
  };
  socket.write(get("/1m.bin"));
  t.is((await reader.next()).sha256, await lab.digestOf("1m.bin"));
  await move();
  const request = get("/100k.bin", { "x-padding": "p".repeat(600) });
  socket.write(request.slice(0, 300));
  await lab.control.connectionOf(localPort, (one) => one.bytesReceived >= 300);
  await move();
  socket.write(request.slice(300));
  t.is((await reader.next()).sha256, await lab.digestOf("100k.bin"));
  await move();
  socket.write(get("/1k.bin").repeat(50));
  for (let i = 0; i < 50; i++) {
    if (i === 20) await move();
    t.is((await reader.next()).sha256, await lab.digestOf("1k.bin"));
  }
});

test("uploads move in the middle of their bodies, and every request is answered once", async (t) => {
  const dialer = await Dialer.start();
  const { socket, localPort } = await dialer.connect();
  const reader = new ResponseReader(socket);
  const body = Buffer.alloc(60_000, "b");
  let received = 0;
  for (let request = 0; request < 20; request++) {
    const head = get("/1k.bin", { "content-length": String(body.length) });
    socket.write(head + body.toString("latin1", 0, 20_000));
    received += head.length + body.length;
    const { id, owner } = await lab.control.connectionOf(
      localPort,
      (one) => one.phase === "LIVE" && one.bytesReceived >= received - 40_000,
    );
    const moving = lab.control.move(id, another(owner));
    for (let at = 20_000; at < body.length; at += 1_000) socket.write(body.subarray(at, at + 1_000));
    const event = await moving;
    t.is(event.result, "ok", event.reason);
    t.is((await reader.next()).sha256, await lab.digestOf("1k.bin"));
  }
});

test("a shut window and a client that has closed its half move along", async (t) => {
  const dialer = await Dialer.start();
  const { socket, localPort } = await dialer.connect();
  const reader = new ResponseReader(socket);
  socket.end(get("/100m.bin"));
  t.is((await reader.head()).status, 200);
  const hash = createHash("sha256");
  await reader.read(MIB, hash);
  for (let moves = 0; moves < 3; moves++) {
    const { id, owner } = await lab.control.connectionOf(localPort, (one) => one.protected && one.phase === "LIVE");
    const event = await lab.control.move(id, another(owner));
    t.is(event.result, "ok", event.reason);
  }
  await reader.read(99 * MIB, hash);
  t.is(hash.digest("hex"), await lab.digestOf("100m.bin"));
  t.true(await reader.ended());
});

test("200 moves back and forth in one download", async (t) => {
  const heldUs: number[] = [];
  const outcome = await watchedDownload(FILE, { rate: "8M" }, async (download) => {
    await download.reached(MIB);
    for (let move = 0; move < 200; move++) {
      // It keeps step with the moves, however long they take.
      if (download.bytes > (BYTES * (move + 10)) / 250) download.pause();
      else download.goOn();
      const { id, owner } = await lab.control.connectionOf(download.port, (one) => one.phase === "LIVE");
      const event = await lab.control.move(id, another(owner));
      t.is(event.result, "ok", event.reason);
      heldUs.push(event.heldUs);
    }
    download.goOn();
  });
  assertSurvived(t, outcome, await lab.digestOf(FILE));
  heldUs.sort((a, b) => a - b);
  t.log(`held p50 ${heldUs[100]} us, p99 ${heldUs[197]} us; servers repeated ${outcome.facts.serverRetransmissions}`);
});

test("drain of a server with 100 downloads: none is left there, every one is right", async (t) => {
  const wanted = await lab.digestOf("10m.bin");
  const downloads = Array.from({ length: 100 }, () => new Download("/10m.bin", { rate: "600k", seconds: 100 }));
  await Promise.all(downloads.map((download) => download.reached(64 * 1024)));
  const there = (await lab.control.connections()).filter((one) => one.owner === "s1").length;
  t.true(there > 10, `${there} on s1`);
  const last = await lab.control.drain("s1", 20_000);
  t.deepEqual({ remaining: last.remaining, reasons: last.reasons }, { remaining: 0, reasons: {} });
  t.is((await lab.control.connections()).filter((one) => one.owner === "s1").length, 0);
  t.is((await lab.control.servers()).find((one) => one.id === "s1")?.state, "DRAINING");
  const fresh = await new Download("/1m.bin").done;
  t.is(fresh.exit, 0);
  await lab.control.undrain("s1");
  t.is((await lab.control.servers()).find((one) => one.id === "s1")?.state, "UP");
  const results = await Promise.all(downloads.map((download) => download.finish()));
  t.deepEqual(
    results.filter((one) => one.sha256 !== wanted || one.exit !== 0 || one.connects !== 1),
    [],
  );
});

test("500 connections in the middle of a response are drained under load", async (t) => {
  const dialer = await Dialer.start();
  const half = await halfReadOn("s1", 500, dialer, lab.control);
  const downloads = Array.from({ length: 20 }, () => new Download("/100m.bin", { rate: "4M" }));
  await Promise.all(downloads.map((download) => download.reached(64 * 1024)));
  const begun = performance.now();
  const last = await lab.control.drain("s1", 20_000);
  t.log(`${last.moved} moved in ${Math.round(performance.now() - begun)} ms`);
  t.deepEqual({ remaining: last.remaining, reasons: last.reasons }, { remaining: 0, reasons: {} });
  t.true(last.moved >= 500);
  const wanted = await lab.digestOf("100k.bin");
  t.deepEqual([...new Set(await Promise.all(half.map((one) => one.finish())))], [wanted]);
  const results = await Promise.all(downloads.map((download) => download.finish()));
  const whole = await lab.digestOf("100m.bin");
  t.deepEqual(
    results.filter((one) => one.sha256 !== whole || one.exit !== 0 || one.connects !== 1),
    [],
  );
  await lab.control.undrain("s1");
});

test("a target that does not answer: nothing happens to the connection", async (t) => {
  const outcome = await watchedDownload(FILE, { rate: "20M" }, async (download) => {
    await download.reached(BYTES / 4);
    const { id, owner } = await lab.control.connectionOf(download.port, (one) => one.protected);
    const target = signal(pidOf(another(owner), "agent"), "SIGSTOP");
    const event = await lab.control.move(id, another(owner)).catch((error: Error) => error);
    signal(target, "SIGCONT");
    t.true(event instanceof Error || event.result === "refused", JSON.stringify(event));
    t.is((await lab.control.connectionOf(download.port)).owner, owner);
  });
  assertSurvived(t, outcome, await lab.digestOf(FILE));
});

test("an owner killed in the middle of a move is taken over", async (t) => {
  const outcome = await watchedDownload(FILE, { rate: "15M" }, async (download) => {
    await download.reached(BYTES / 4);
    const { id, owner } = await lab.control.connectionOf(download.port, (one) => one.protected);
    const moving = lab.control.move(id, another(owner)).catch((error: Error) => error);
    killAgent(owner);
    await moving;
    await eventually("another owner", async () => (await lab.control.connectionOf(download.port)).owner !== owner);
  });
  assertSurvived(t, outcome, await lab.digestOf(FILE));
});

test("a rolling restart of all three servers, one SIGTERM after the other, under 200 downloads", async (t) => {
  const wanted = await lab.digestOf("10m.bin");
  const before = await countersOf("client");
  const known = (await lab.control.events()).length;
  const downloads = Array.from({ length: 200 }, () => new Download("/10m.bin", { rate: "100k", seconds: 115 }));
  await Promise.all(downloads.map((download) => download.reached(64 * 1024)));
  for (const server of SERVERS) {
    const supervisor = signal(pidOf(server, "supervisor"), "SIGTERM");
    await eventually(`${server}'s agent has ended`, () => !lives(supervisor), 40_000);
    await labHeal();
  }
  const results = await Promise.all(downloads.map((download) => download.finish()));
  t.deepEqual(
    results.filter((one) => one.sha256 !== wanted || one.exit !== 0 || one.connects !== 1),
    [],
  );
  const events = (await lab.control.events()).slice(known);
  t.deepEqual(
    events.filter((one) => one.kind === "takeover"),
    [],
    "nothing had to be taken over",
  );
  const after = await countersOf("client");
  t.is(after["Tcp.EstabResets"], before["Tcp.EstabResets"]);
  t.log(`timeouts of the client: ${after["TcpExt.TCPTimeouts"]! - before["TcpExt.TCPTimeouts"]!}`);
});
