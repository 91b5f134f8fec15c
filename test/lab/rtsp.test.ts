import { linkSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import { answeredBy, crowd } from "../support/crowd.js";
import { Dialer } from "../support/dialer.js";
import { eventually } from "../support/eventually.js";
import { makeFilm, PICTURES_A_SECOND } from "../support/film.js";
import { labTest } from "../support/fixture.js";
import { VIP, VIP6 } from "../support/host.js";
import { Replacement } from "../support/replacement.js";
import { isRun, Receiver, RtspClient, saysGoodbye } from "../support/rtsp.js";
import { cutOff, drainAway, takeOver } from "../support/takeover.js";

const directory = mkdtempSync(join(tmpdir(), "baton-rtsp-"));
const FILM = "film.mp4";
const URL = `rtsp://${VIP}/${FILM}`;
const SECONDS = 10;
const PICTURES = PICTURES_A_SECOND * SECONDS;

const pictures = makeFilm(directory, FILM, SECONDS);
const { test, lab } = labTest({ content: directory }, () => rmSync(directory, { recursive: true }));
/** The sound as it comes where nothing happens. */
let sound: string[] = [];

test("a film is received to its end, over the connection and in datagrams", async (t) => {
  const both = receiveBoth();
  const rows = await eventually("rows of the flows", async () => {
    const all = await lab.control.connections({ protocol: "rtsp" });
    return all.filter(({ transport, bytesSent }) => transport === "udp" && Number(bytesSent) > 0).length >= 4 && all;
  });
  t.deepEqual(
    rows.flatMap(({ transport, object }) => (transport === "udp" ? [object] : [])),
    ["video rtp", "video rtcp", "audio rtp", "audio rtcp"],
  );
  for (const receiver of both) {
    const received = await receiver.done;
    t.is(received.exit, 0, received.error);
    t.deepEqual(received.pictures, pictures);
    sound = received.sound;
  }
  t.is(pictures.length, PICTURES);
  await eventually("nothing is left of them", async () => (await lab.control.connections()).length === 0);
});

for (const transport of ["tcp", "udp"] as const) {
  test(`a film outlives its server: ${transport}`, async (t) => {
    const receiver = new Receiver(directory, FILM, transport);
    const [connection] = await eventually("it plays", async () => {
      const all = await lab.control.connections({ protocol: "rtsp" });
      return all.some(({ bytesSent }) => Number(bytesSent) > 100_000) && all.filter(({ bundle, id }) => bundle === id);
    });
    await delay(2_000);
    await takeOver(t, lab.control, connection!.id);
    await assertReceived(t, [receiver]);
  });
}

test("films go on when their agents are replaced, with the content that they had", async (t) => {
  const both = receiveBoth();
  const playing = await bothPlay();
  const [path, kept, other] = [FILM, "kept", "other"].map((name) => join(directory, name)) as [string, string, string];
  linkSync(path, kept);
  writeFileSync(other, "no film at all");
  renameSync(other, path);
  try {
    for (const server of new Set(playing.map(({ owner }) => owner))) await new Replacement(server).done();
    await assertReceived(t, both);
  } finally {
    renameSync(kept, path);
  }
});

test("films are moved in the middle, over the connection and in datagrams", async (t) => {
  const both = receiveBoth();
  const playing = await bothPlay();
  await delay(2_000);
  for (const { id, owner } of playing) {
    const event = await lab.control.move(id, owner === "s1" ? "s2" : "s1");
    t.is(event.result, "ok", event.reason);
  }
  await assertReceived(t, both);
});

const LOSSES = { "its server dies": takeOver, "its host is cut off": cutOff, "its server is drained": drainAway };

for (const [how, lose] of Object.entries(LOSSES)) {
  test(`a session goes on before it plays, while it is paused, and while it plays again, when ${how}`, (t) =>
    outlives(t, lose));
}

for (const [how, lose] of Object.entries({
  "their hosts are cut off": cutOff,
  "their servers are drained": drainAway,
})) {
  test(`films go on, over the connection and in datagrams, when ${how}`, async (t) => {
    const both = receiveBoth();
    const playing = await bothPlay();
    for (const { id } of playing) await lose(t, lab.control, id);
    await assertReceived(t, both);
  });
}

test("what is bad is answered, and hurts nothing", async (t) => {
  const both = receiveBoth();
  await bothPlay();
  const taken = await eventually("a client's port of theirs", async () => {
    const flows = (await lab.control.connections({ protocol: "rtsp" })).filter(({ object }) => object === "video rtp");
    return Number(flows[0]?.client.split(":").at(-1));
  });
  const dialer = await Dialer.start();
  const { socket } = await dialer.connect({ port: 554 });
  const client = new RtspClient(socket);
  const status = async (method: string, target: string, headers: Record<string, string> = {}) =>
    (await client.ask(method, target, headers)).status;
  const udp = (ports: string) => ({ Transport: `RTP/AVP;unicast;client_port=${ports}` });
  const track = `${URL}/trackID=1`;
  for (const [method, target, headers, answer] of [
    ["DESCRIBE", `rtsp://${VIP}/../../etc/passwd`, {}, 400],
    ["DESCRIBE", `rtsp://${VIP}/%2e%2e/%2e%2e/etc/passwd`, {}, 400],
    ["DESCRIBE", `rtsp://${VIP}/..%2f..%2fetc%2fpasswd`, {}, 400],
    ["DESCRIBE", `rtsp://${VIP}/nothing.mp4`, {}, 404],
    ["DESCRIBE", URL, { Accept: "text/html" }, 406],
    ["OPTIONS", "*", { Require: "what.nobody.has" }, 551],
    ["DANCE", URL, {}, 501],
    ["RECORD", URL, {}, 405],
    ["PLAY", URL, {}, 454],
    ["PLAY", URL, { Session: "12345678" }, 454],
    ["SETUP", URL, udp("5000-5001"), 459],
    ["SETUP", `${URL}/trackID=9`, udp("5000-5001"), 404],
    ["SETUP", track, {}, 400],
    ["SETUP", track, udp("0-1"), 461],
    ["SETUP", track, udp("70000-70001"), 461],
    ["SETUP", track, { Transport: "RTP/AVP;unicast;client_port=5000-5001;destination=10.77.0.1" }, 461],
    ["SETUP", track, { Transport: "RAW/RAW/UDP;unicast" }, 461],
  ] as const) {
    t.is(await status(method, target, headers), answer, `${method} ${target} ${JSON.stringify(headers)}`);
  }
  // The client's port of another session: what is sent there comes from another port of ours, and is another flow.
  const chosen = await client.ask("SETUP", track, udp(`${taken}-${taken + 1}`));
  t.is(chosen.status, 200);
  t.regex(chosen.headers.get("Transport")!, /server_port=\d+-\d+/);
  for (const [bytes, answer] of Object.entries({
    "hello there\r\n\r\n": 400,
    [`OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: ${"x".repeat(20_000)}\r\n\r\n`]: 413,
    [`OPTIONS rtsp://${VIP}/${"x".repeat(5_000)} RTSP/1.0\r\n\r\n`]: 414,
    "OPTIONS * RTSP/9.0\r\nCSeq: 1\r\n\r\n": 505,
    "SET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 9999999999\r\n\r\n": 413,
  })) {
    const other = (await dialer.connect({ port: 554 })).socket;
    other.on("error", () => {});
    const heard = new RtspClient(other);
    t.is((await heard.say(bytes)).status, answer, bytes.slice(0, 40));
    await eventually("it ends", () => heard.ended);
  }
  await assertReceived(t, both);
  dialer.close();
});

const CROWDED = 3_000;
const HALF_OPEN_MAX = 256;
const SERVERS = 3;

test(`${CROWDED} half-open connections of one client leave room for the others`, async (t) => {
  const answers = await crowd(554, CROWDED, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
  t.log(JSON.stringify(answers));
  const [answered, reset] = [answeredBy(answers, "RTSP/1.0 200"), answeredBy(answers, "reset")];
  t.is(answered + reset, CROWDED);
  t.true(answered > 0 && answered <= HALF_OPEN_MAX * SERVERS);
  const other = new Receiver(directory, FILM, "udp", `rtsp://[${VIP6}]`);
  await assertReceived(t, [other]);
});

/** Over the connection, and in datagrams. */
function receiveBoth(): Receiver[] {
  return [new Receiver(directory, FILM, "tcp"), new Receiver(directory, FILM, "udp")];
}

/** Resolves to their control connections. */
function bothPlay() {
  return eventually("they play", async () => {
    const all = await lab.control.connections({ protocol: "rtsp" });
    const flows = all.filter(({ transport, bytesSent }) => transport === "udp" && Number(bytesSent) > 0);
    const controls = all.filter(({ bundle, id }) => bundle === id);
    return flows.length >= 4 && controls.length === 2 && controls;
  });
}

async function assertReceived(t: ExecutionContext, receivers: Receiver[]): Promise<void> {
  for (const receiver of receivers) {
    const received = await receiver.done;
    t.is(received.exit, 0, received.error);
    t.deepEqual(received.pictures, pictures, "every picture");
    t.deepEqual(received.sound, sound, "every sound");
  }
}

async function outlives(t: ExecutionContext, lose: typeof takeOver): Promise<void> {
  const dialer = await Dialer.start();
  const { socket, localPort } = await dialer.connect({ port: 554 });
  const client = new RtspClient(socket);
  const { id } = await lab.control.connectionOf(localPort);
  const session = await setUp(t, client);
  await lose(t, lab.control, id);
  t.is((await client.ask("PLAY", URL, session)).status, 200);
  await eventually("it plays", () => client.sequences(0).length > 100);
  const paused = await client.ask("PAUSE", URL, session);
  t.is(paused.status, 200);
  const count = client.sequences(0).length;
  await lose(t, lab.control, id);
  await delay(500);
  t.is(client.sequences(0).length, count, "nothing comes while it is paused");
  const again = await client.ask("PLAY", URL, session);
  const [stopped, resumed] = [paused, again].map(({ headers }) => Number(/=([\d.]+)/.exec(headers.get("Range")!)![1]));
  t.true(Math.abs(resumed! - stopped!) <= 0.04, `${stopped} and ${resumed}: the same picture`);
  await delay(1_500);
  await lose(t, lab.control, id);
  await eventually("the film ends", () => client.packets.get(1)?.some(saysGoodbye), 20_000);
  const sequences = client.sequences(0);
  t.true(isRun(sequences), "each packet once, in order");
  t.is((await client.ask("TEARDOWN", URL, session)).status, 200);
  t.is((await client.ask("PLAY", URL, session)).status, 454);
  socket.end();
  await eventually("the connection ends", () => client.ended);
}

async function setUp(t: ExecutionContext, client: RtspClient): Promise<{ Session: string }> {
  const described = await client.ask("DESCRIBE", URL, { Accept: "application/sdp" });
  t.is(described.status, 200);
  const first = await client.ask("SETUP", `${URL}/trackID=1`, { Transport: "RTP/AVP/TCP;unicast;interleaved=0-1" });
  t.is(first.status, 200);
  const session = { Session: first.headers.get("Session")!.split(";")[0]! };
  const transport = { Transport: "RTP/AVP/TCP;unicast;interleaved=2-3" };
  t.is((await client.ask("SETUP", `${URL}/trackID=2`, { ...session, ...transport })).status, 200);
  return session;
}
