import { closeSync, fstatSync, openSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { RTP_HEADER } from "../../../agent/media/index.js";
import { makeUserLine, Users } from "../../../agent/protocols/rtsp/users.js";
import { RefusedError } from "../../../proto/errors.js";
import type { LayerSection } from "../../../proto/record.js";
import { decodeRtspSection, encodeRtspSection } from "../../../proto/sections.js";
import { eventually } from "../../support/eventually.js";
import { authorization, isRun, type RtspAnswer, type RtspClient, saysGoodbye } from "../../support/rtsp.js";
import { makeFilm, type Scene, scene, sectionOf, setUp, TCP, twin, UDP, URL } from "./scene.js";

let remove = () => {};
test.before(async () => {
  remove = await makeFilm();
});
test.after.always(() => remove());

/** Each once, the first one's successors behind it and whatever came before it in front. */
const inOrder = (numbers: number[]) => {
  const behindFirst = (number: number) => ((number - numbers[0]!) << 16) >> 16;
  return [...new Set(numbers)].sort((a, b) => behindFirst(a) - behindFirst(b));
};

/** Another server's layer that has a section and is not ready, while the store is away: it gets no record. */
async function heirOf(t: ExecutionContext, former: Scene, section: LayerSection): Promise<Scene> {
  const next = scene(t, former);
  next.port.isAway = true;
  await next.layer.unready(section);
  await next.layer.gather();
  return next;
}

/** A film by UDP whose server is gone after some packets, exactly at its record. @returns how many, and its heir */
async function cutShort(t: ExecutionContext): Promise<{ count: number; next: Scene }> {
  const one = scene(t);
  await one.ask("PLAY", URL, await setUp(one, UDP));
  await delay(300);
  const section = sectionOf(one.layer);
  one.layer.closed();
  return { count: one.bundle.sent.get(5000)!.length, next: await heirOf(t, one, section) };
}

const sequencesOf = (packets: Buffer[]) => packets.map((packet) => packet.readUInt16BE(2));

test("a film is described, set up, and played to its end", async (t) => {
  const one = scene(t);
  const options = await one.ask("OPTIONS", "*");
  t.regex(options.headers.get("Public") ?? "", /DESCRIBE.*PLAY/);
  const described = await one.ask("DESCRIBE");
  t.is(described.headers.get("Content-Base"), `${URL}/`);
  t.regex(described.body, /m=video 0 RTP\/AVP 96/);
  const session = await setUp(one);
  const playing = await one.ask("PLAY", URL, session);
  t.is(playing.headers.get("Range")?.split("-")[0], "npt=0.000");
  await eventually("the end", () => {
    one.deliver();
    return [1, 3].every((channel) => one.client.packets.get(channel)?.some(saysGoodbye));
  });
  const [first] = one.client.sequences(0);
  t.regex(playing.headers.get("RTP-Info") ?? "", new RegExp(`trackID=1;seq=${first};`));
  t.true(isRun(one.client.sequences(0)));
  t.true(isRun(one.client.sequences(2)));
  t.true(one.port.objects.length > 3, "it is promised a quarter of a second at a time");
  t.is((await one.ask("TEARDOWN", URL, session)).status, 200);
  t.is(sectionOf(one.layer).layer, "rtsp");
  one.layer.inputEnd();
  await eventually("it ends", () => one.port.fin);
});

test("what cannot be done is answered so", async (t) => {
  const one = scene(t);
  const status = async (method: string, target = URL, headers: Record<string, string> = {}) =>
    (await one.ask(method, target, headers)).status;
  t.is(await status("DANCE"), 501);
  t.is(await status("ANNOUNCE"), 405);
  t.is(await status("OPTIONS", "*", { Require: "com.example.flight" }), 551);
  t.is(await status("DESCRIBE", "rtsp://10.77.0.100/no.mp4"), 404);
  t.is(await status("DESCRIBE", "rtsp://10.77.0.100/../x"), 400);
  t.is(await status("DESCRIBE", URL, { Accept: "text/html" }), 406);
  t.is(await status("PLAY"), 454);
  t.is(await status("PLAY", URL, { Session: "12345678" }), 454);
  t.is(await status("SETUP", URL, { Transport: `${TCP}0-1` }), 459);
  t.is(await status("SETUP", `${URL}/trackID=7`, { Transport: `${TCP}0-1` }), 404);
  t.is(await status("SETUP", `${URL}/trackID=1`), 400);
  t.is(await status("SETUP", `${URL}/trackID=1`, { Transport: "RTP/AVP;multicast" }), 461);
  t.true(one.layer.halfOpen());
  const session = await setUp(one);
  t.false(one.layer.halfOpen());
  t.is(await status("SETUP", `${URL}/trackID=1`, { Transport: `${TCP}0-1` }), 455, "one session a connection");
  t.is(await status("PLAY", `${URL}/trackID=1`, session), 460);
  t.is(await status("PLAY", URL, { ...session, Range: "npt=5-4" }), 457);
  t.is(await status("PLAY", URL, { ...session, Range: "npt=900-" }), 457);
  t.is(await status("PLAY", "rtsp://10.77.0.100/other.mp4", session), 404);
  t.is(await status("GET_PARAMETER", URL, session), 200);
  t.is(await status("PAUSE", URL, session), 200);
  t.is(await status("TEARDOWN", URL, session), 200);
  t.is(await status("TEARDOWN", URL, session), 454);
  one.layer.input(Buffer.from("nonsense\r\n\r\n"));
  await eventually("it ends", () => one.port.fin);
});

test("another server goes on with the same packets, wherever it begins", async (t) => {
  let one = scene(t);
  const session = await setUp(one);
  await one.ask("PLAY", URL, session);
  for (let takeovers = 0; takeovers < 3; takeovers++) {
    await delay(300);
    one.deliver();
    one = await twin(t, one);
  }
  await eventually("the end", () => {
    one.deliver();
    return one.client.packets.get(3)?.some(saysGoodbye);
  });
  t.true(isRun(one.client.sequences(0)));
  t.true(isRun(one.client.sequences(2)));
  const whole = scene(t);
  await whole.ask("PLAY", URL, await setUp(whole));
  await eventually("the end", () => {
    whole.deliver();
    return whole.client.packets.get(3)?.some(saysGoodbye);
  });
  const payloads = (client: RtspClient, channel: number) =>
    Buffer.concat(client.packets.get(channel)!.map((packet) => packet.subarray(RTP_HEADER)));
  for (const channel of [0, 2]) {
    t.true(payloads(one.client, channel).equals(payloads(whole.client, channel)), `channel ${channel}`);
  }
});

test("what is promised is made again, byte by byte", async (t) => {
  const one = scene(t);
  const session = await setUp(one);
  await one.ask("PLAY", URL, session);
  await delay(600);
  await one.ask("PAUSE", URL, session);
  await one.ask("PLAY", URL, session); // what was promised before is of another range
  const section = sectionOf(one.layer);
  const { past, session: kept } = decodeRtspSection(section);
  t.is(past.length, 1);
  const pieces = [...past, kept!.range!].flatMap((range) => range.pieces);
  t.true(pieces.length >= 3);
  const other = scene(t, one);
  await other.layer.unready(section);
  for (const { offset, objectOffset, length } of pieces) {
    const reference = { objectId: "/film.mp4", validator: "sha256:1", objectOffset, length };
    const file = await other.layer.open(reference);
    other.port.out = Buffer.alloc(0);
    other.port.respond({ pieces: [{ object: reference, file }], processed: other.port.processedTo });
    t.true(other.port.out.equals(one.port.out.subarray(offset, offset + length)));
  }
  const missing = { objectId: "/film.mp4", validator: "sha256:1", objectOffset: 9_999_999, length: 1 };
  await t.throwsAsync(other.layer.open(missing), { instanceOf: RefusedError });
  // Once the client has it nothing of the range before is kept.
  one.layer.acknowledged(one.port.tail() + 1);
  t.is(decodeRtspSection(sectionOf(one.layer)).past.length, 0);
});

test("after a pause, and elsewhere, the same source goes on", async (t) => {
  const one = scene(t);
  const session = await setUp(one);
  await one.ask("PLAY", URL, session);
  await delay(100);
  const paused = await one.ask("PAUSE", URL, session);
  const again = await one.ask("PLAY", URL, session);
  const [stopped, resumed] = [paused, again].map(({ headers }) => Number(/=([\d.]+)/.exec(headers.get("Range")!)![1]));
  t.true(Math.abs(resumed! - stopped!) <= 0.04, `${stopped} and ${resumed}: the same picture`);
  const elsewhere = await one.ask("PLAY", URL, { ...session, Range: "npt=1.5-" });
  t.is(elsewhere.headers.get("Range")?.split("-")[0], "npt=1.440"); // a picture that needs no other
  await eventually("the end", () => {
    one.deliver();
    return one.client.packets.get(1)?.some(saysGoodbye);
  });
  t.true(isRun(one.client.sequences(0)));
  t.is(new Set(one.client.packets.get(0)!.map((packet) => packet.readUInt32BE(8))).size, 1);
});

test("a client that takes nothing gets no more", async (t) => {
  const one = scene(t);
  one.port.acknowledgedTo = 0;
  await one.ask("PLAY", URL, await setUp(one));
  await delay(2_300);
  t.true(one.port.objects.length <= 6, `${one.port.objects.length} pieces`);
});

test("in datagrams every packet comes once; its flows are known", async (t) => {
  const one = scene(t);
  one.bundle.taken = 2;
  const session = await setUp(one, UDP);
  t.is(one.bundle.relations.length, 4);
  t.deepEqual([...new Set(one.bundle.relations.map(({ clientPort }) => clientPort))], [5000, 5001, 5002, 5003]);
  await one.ask("PLAY", URL, session);
  await eventually("the end", () => one.bundle.sent.get(5003)?.some(saysGoodbye));
  t.true(isRun(sequencesOf(one.bundle.sent.get(5000)!)));
  t.true(isRun(sequencesOf(one.bundle.sent.get(5002)!)));
  t.deepEqual(
    one.layer.flows().map(({ name, clientPort }) => `${name} ${clientPort}`),
    ["video rtp 5000", "video rtcp 5001", "audio rtp 5002", "audio rtcp 5003"],
  );
  t.is(one.layer.flows()[0]!.bytes, Buffer.concat(one.bundle.sent.get(5000)!).length);
  await one.ask("TEARDOWN", URL, session);
  t.is(one.bundle.relations.length, 0);
  t.is(one.bundle.received.size, 0);
});

test("another server sends again what it cannot know to be sent, and the last of that not last", async (t) => {
  let one = scene(t);
  await one.ask("PLAY", URL, await setUp(one, UDP));
  await delay(500);
  const section = sectionOf(one.layer);
  await delay(80); // it goes on for a moment behind its record
  one.layer.closed();
  const before = sequencesOf(one.bundle.sent.get(5000)!);
  const next = scene(t, one);
  await next.layer.unready(section);
  await next.layer.gather();
  next.layer.ready(0, true);
  one = next;
  await eventually("the end", () => one.bundle.sent.get(5001)?.some(saysGoodbye));
  const all = one.bundle.sent.get(5000)!;
  const after = sequencesOf(all.slice(before.length));
  const last = before.at(-1)!;
  t.true(after.includes(last), "some are sent once more");
  t.true(((after[0]! - last) & 0xffff) < 0x8000 && after[0] !== last, "behind one that was not");
  const bySequence = new Map<number, Buffer>();
  for (const packet of all) {
    const known = bySequence.get(packet.readUInt16BE(2));
    if (known) t.true(packet.equals(known), "the same packet");
    bySequence.set(packet.readUInt16BE(2), packet);
  }
  t.true(isRun(inOrder([...bySequence.keys()])), "no hole");
});

test("while its flows stand still nothing is sent, and nothing is lost", async (t) => {
  const one = scene(t);
  await one.ask("PLAY", URL, await setUp(one, UDP));
  await delay(200);
  one.bundle.isOpen = false;
  const count = one.bundle.sent.get(5000)!.length;
  await delay(100);
  const { looks } = one.bundle;
  await delay(300);
  t.is(one.bundle.sent.get(5000)!.length, count);
  t.is(one.bundle.looks, looks, "nor is anything done");
  one.bundle.thaw();
  await eventually("the end", () => one.bundle.sent.get(5001)?.some(saysGoodbye));
  t.true(isRun(sequencesOf(one.bundle.sent.get(5000)!)));
});

test("while the store is away no more is sent than a record allows, and nothing is done", async (t) => {
  const one = scene(t);
  await one.ask("PLAY", URL, await setUp(one, UDP));
  await delay(200);
  one.port.isAway = true;
  await eventually("it waits for its record", () => one.port.recordings.length > 0);
  await delay(400);
  const [count, { looks }] = [one.bundle.sent.get(5000)!.length, one.bundle];
  await delay(300);
  t.is(one.bundle.sent.get(5000)!.length, count);
  t.is(one.bundle.looks, looks);
  one.port.returns();
  await eventually("the end", () => one.bundle.sent.get(5001)?.some(saysGoodbye));
  t.true(isRun(sequencesOf(one.bundle.sent.get(5000)!)));
});

test("where the store may lie further back nothing is sent before there is a record", async (t) => {
  const { count, next } = await cutShort(t);
  next.layer.ready(0, false);
  await eventually("it asks for a record", () => next.port.recordings.length > 0);
  await delay(50);
  t.is(next.bundle.sent.get(5000)!.length, count);
  next.port.returns();
  await eventually("it goes on", () => next.bundle.sent.get(5000)!.length > count);
});

test("where the store has what was restored it goes on at once", async (t) => {
  const { count, next } = await cutShort(t);
  await delay(50);
  t.is(next.bundle.sent.get(5000)!.length, count, "not before it is ready");
  next.layer.ready(0, true);
  await eventually("it goes on", () => next.bundle.sent.get(5000)!.length > count);
});

test("a pause right behind a takeover does not make what was sent before certain", async (t) => {
  const one = scene(t);
  const session = await setUp(one, UDP);
  await one.ask("PLAY", URL, session);
  await delay(500);
  const section = sectionOf(one.layer);
  await delay(80);
  one.layer.closed();
  const last = sequencesOf(one.bundle.sent.get(5000)!).at(-1)!;
  const count = one.bundle.sent.get(5000)!.length;
  const next = await heirOf(t, one, section);
  next.layer.ready(0, false);
  await next.ask("PAUSE", URL, session);
  next.port.returns();
  await next.ask("PLAY", URL, session);
  await eventually("it goes on", () => next.bundle.sent.get(5000)!.length > count);
  const first = sequencesOf(next.bundle.sent.get(5000)!)[count]!;
  t.true(((first - last) & 0xffff) < 0x8000 && first !== last, "behind one that was not");
  await eventually("the end", () => next.bundle.sent.get(5001)?.some(saysGoodbye));
  t.true(isRun(inOrder(sequencesOf(next.bundle.sent.get(5000)!))), "no hole");
});

test("another range right behind a takeover has other numbers than what was sent before", async (t) => {
  const one = scene(t);
  const session = await setUp(one, UDP);
  await one.ask("PLAY", URL, session);
  await delay(500);
  const section = sectionOf(one.layer);
  await delay(80);
  one.layer.closed();
  const before = sequencesOf(one.bundle.sent.get(5000)!);
  const next = await heirOf(t, one, section);
  next.layer.ready(0, false);
  await next.ask("PAUSE", URL, session);
  await next.ask("PLAY", URL, { ...session, Range: "npt=1-" });
  next.port.returns();
  await eventually("it goes on", () => next.bundle.sent.get(5000)!.length > before.length);
  const first = sequencesOf(next.bundle.sent.get(5000)!)[before.length]!;
  t.true(((first - before.at(-1)!) & 0xffff) < 0x8000 && !before.includes(first));
});

test("where nothing is recorded the client's acks are enough to let ranges go", async (t) => {
  const one = scene(t);
  const session = await setUp(one);
  for (let ranges = 0; ranges < 12; ranges++) {
    t.is((await one.ask("PLAY", URL, { ...session, Range: "npt=0-" })).status, 200, `range ${ranges}`);
    one.layer.acknowledged(one.port.tail() + 1);
  }
});

test("who says something where media are is not idle here", async (t) => {
  const one = scene(t);
  const session = await setUp(one, UDP);
  const idleMs = one.layer.idleMs;
  t.true(idleMs < 120_000);
  await one.ask("PLAY", URL, session);
  t.is(one.layer.idleMs, Number.POSITIVE_INFINITY);
  await one.ask("TEARDOWN", URL, session);
  t.is(one.layer.idleMs, idleMs);
});

test("a track that is set up again as it was keeps its ports", async (t) => {
  const one = scene(t, { ports: { from: 31_000, to: 31_003 } });
  const session = await setUp(one, UDP);
  const related = () => one.bundle.relations.map(({ vipPort, clientPort }) => `${vipPort} ${clientPort}`);
  for (let times = 0; times < 8; times++) {
    const again = await one.ask("SETUP", `${URL}/trackID=1`, { ...session, Transport: UDP[0]! });
    const [, rtp, rtcp] = /server_port=(\d+)-(\d+)/.exec(again.headers.get("Transport")!)!;
    t.true(related().includes(`${rtp} 5000`) && related().includes(`${rtcp} 5001`), `${rtp}: ${related()}`);
  }
});

test("a range that was left gets its film's digest, too", async (t) => {
  let settle: (validator: string) => void = () => {};
  const digest = new Promise<string>((resolve) => {
    settle = resolve;
  });
  const one = scene(t, { pending: digest });
  one.port.acknowledgedTo = 0;
  const session = await setUp(one);
  await one.ask("PLAY", URL, session);
  await one.ask("PLAY", URL, { ...session, Range: "npt=0-" });
  t.is(one.layer.gap(), "digest pending");
  t.is(decodeRtspSection(sectionOf(one.layer)).past[0]?.validator, "");
  settle("sha256:1");
  await digest;
  t.is(decodeRtspSection(sectionOf(one.layer)).past[0]?.validator, "sha256:1");
  t.is(one.layer.gap(), "");
});

test("the next process of a server goes on with the films that it is passed, of whatever content", async (t) => {
  const one = scene(t);
  const session = await setUp(one);
  one.port.acknowledgedTo = 0;
  await one.ask("PLAY", URL, session);
  await one.ask("PLAY", URL, { ...session, Range: "npt=0-" });
  const { session: kept, past, ...rest } = decodeRtspSection(sectionOf(one.layer));
  // No server has such a content under that name any more.
  const replaced = { validator: "sha256:0" };
  const ranges = past.map((range) => ({ ...range, ...replaced }));
  const range = { ...kept!.range!, ...replaced };
  const section = encodeRtspSection({ ...rest, past: ranges, session: { ...kept!, ...replaced, range } });
  const sources = one.layer.sources();
  t.is(sources.length, 2);
  const fds = () => sources.map(({ fd }) => openSync(`/proc/self/fd/${fd}`, "r"));
  const next = scene(t, one);
  next.layer.takeSources(fds());
  await next.layer.unready(section);
  t.deepEqual(decodeRtspSection(sectionOf(next.layer)).session?.validator, "sha256:0");
  t.is(next.open(), 2);
  next.layer.closed();
  await eventually("everything is closed", () => next.open() === 0);
  const without = scene(t, one);
  await t.throwsAsync(without.layer.unready(section), { instanceOf: RefusedError });
  const unused = scene(t, one);
  const [fd, ...others] = fds() as [number, ...number[]];
  unused.layer.takeSources([fd]);
  unused.layer.closed();
  t.throws(() => fstatSync(fd), { code: "EBADF" });
  for (const other of others) closeSync(other);
  one.layer.closed();
  for (const source of sources) source.close();
  await eventually("all is closed", () => one.open() === 0);
});

test("a record of a range that its film does not have leaves nothing open", async (t) => {
  const one = scene(t);
  const session = await setUp(one);
  await one.ask("PLAY", URL, session);
  await one.ask("PLAY", URL, { ...session, Range: "npt=0-" });
  const { past, ...rest } = decodeRtspSection(sectionOf(one.layer));
  t.is(past.length, 1);
  const lanes = past[0]!.lanes.map((lane) => ({ ...lane, track: 9 }));
  const section = encodeRtspSection({ ...rest, past: [{ ...past[0]!, lanes }] });
  const next = scene(t);
  await t.throwsAsync(next.layer.unready(section), { instanceOf: RefusedError });
  next.layer.closed();
  await eventually("everything is closed", () => next.open() === 0);
});

test("where no ports can be had, media go over the connection if the client can that too", async (t) => {
  const one = scene(t);
  one.bundle.taken = 1_000;
  const alone = await one.ask("SETUP", `${URL}/trackID=1`, { Transport: UDP[0]! });
  t.is(alone.status, 461);
  const either = await one.ask("SETUP", `${URL}/trackID=1`, { Transport: `${UDP[0]},${TCP}0-1` });
  t.regex(either.headers.get("Transport") ?? "", /interleaved=0-1/);
});

test("a password is asked for, and its answer is good on another server; who guesses is sent away", async (t) => {
  const line = makeUserLine({ name: "anna", realm: "films" }, "secret");
  const server = () => new Users(line, "users", "films");
  const one = scene(t, { users: server() });
  const answerTo = (challenged: RtspAnswer, method: string, target = URL, password = "secret") =>
    authorization(challenged, { user: "anna", password, method, target });
  const after = async (former: Scene, users: Users) => {
    const next = scene(t, { users });
    await next.layer.unready(sectionOf(former.layer));
    next.layer.ready(0, true);
    return next;
  };
  t.is((await one.ask("OPTIONS", "*")).status, 200);
  t.is((await one.ask("PLAY", URL, { Session: "12345678" })).status, 401, "nobody learns which sessions there are");
  const challenged = await one.ask("DESCRIBE");
  t.is(challenged.status, 401);
  const other = await after(one, server());
  t.is((await other.ask("DESCRIBE", URL, answerTo(challenged, "DESCRIBE"))).status, 200);
  t.is(decodeRtspSection(sectionOf(other.layer)).user, "anna");
  t.is((await other.ask("SETUP", URL, answerTo(challenged, "DESCRIBE"))).status, 401, "of another method");

  const reloaded = await after(other, new Users(`# changed\n${line}`, "users", "films"));
  t.is(decodeRtspSection(sectionOf(reloaded.layer)).failures, 1, "taken along");
  const stale = await reloaded.ask("DESCRIBE", URL, answerTo(challenged, "DESCRIBE"));
  t.is(stale.status, 401);
  t.regex(stale.headers.get("WWW-Authenticate") ?? "", /stale=true/);
  t.is((await reloaded.ask("DESCRIBE", URL, answerTo(stale, "DESCRIBE"))).status, 200);
  t.is(decodeRtspSection(sectionOf(reloaded.layer)).failures, 0);
  for (let failures = 1; failures <= 3; failures++) {
    const before = Date.now();
    t.is((await reloaded.ask("DESCRIBE", URL, answerTo(stale, "DESCRIBE", URL, "guess"))).status, 401);
    t.true(Date.now() - before >= 450);
  }
  t.true(reloaded.port.fin);
});
