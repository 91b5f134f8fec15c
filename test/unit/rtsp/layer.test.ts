import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { RTP_HEADER } from "../../../agent/media/index.js";
import type { BundlePort, DatagramFlow, Relation } from "../../../agent/protocols/application.js";
import { Films } from "../../../agent/protocols/rtsp/films.js";
import { RtspLayer } from "../../../agent/protocols/rtsp/layer.js";
import { RefusedError } from "../../../proto/errors.js";
import type { LayerSection } from "../../../proto/record.js";
import { decodeRtspSection } from "../../../proto/sections.js";
import { eventually } from "../../support/eventually.js";
import { FakePort } from "../../support/port.js";
import { type RtspAnswer, RtspClient, saysGoodbye } from "../../support/rtsp.js";
import { makeClip } from "../media/clip.js";

const URL = "rtsp://10.77.0.100/film.mp4";
const TCP = "RTP/AVP/TCP;unicast;interleaved=";

/** What leaves in datagrams, and whether it may. */
class FakeBundle implements BundlePort {
  readonly id = "10-77-0-10_51234_10-77-0-100_554_tcp.1";
  readonly control = undefined;
  readonly related = [];
  readonly relations: Relation[] = [];
  readonly sent = new Map<number, Buffer[]>();
  readonly received = new Map<number, (datagram: Buffer) => void>();
  isOpen = true;
  taken = 0;
  relate(relations: Relation[]): Promise<void> {
    if (this.taken-- > 0) return Promise.reject(new RefusedError("taken"));
    this.relations.push(...relations);
    return Promise.resolve();
  }
  restate(relations: Relation[]): void {
    this.relations.push(...relations);
  }
  unrelate(relations: Relation[]): void {
    for (const { vipPort } of relations) {
      const at = this.relations.findIndex((one) => one.vipPort === vipPort);
      this.relations.splice(at, 1);
    }
  }
  async openDatagrams(
    _vipPort: number,
    clientPort: number,
    received: (datagram: Buffer) => void,
  ): Promise<DatagramFlow> {
    this.received.set(clientPort, received);
    const isOpen = () => this.isOpen;
    return {
      send: (datagram) => this.sent.set(clientPort, [...(this.sent.get(clientPort) ?? []), datagram]),
      ...{ pending: 0, close: () => this.received.delete(clientPort) },
      get isOpen() {
        return isOpen();
      },
    };
  }
  dial(): Promise<void> {
    return Promise.reject(new Error("nobody dials here"));
  }
  expect(): void {}
  expectNone(): void {}
}

/** A store that takes everything at once. */
class RecordingPort extends FakePort {
  override recorded(): Promise<void> {
    return Promise.resolve();
  }
}

interface Scene {
  port: RecordingPort;
  bundle: FakeBundle;
  layer: RtspLayer;
  client: RtspClient;
  ask(method: string, target?: string, headers?: Record<string, string>): Promise<RtspAnswer>;
  /** What was sent since the last time goes to the client. */
  deliver(): void;
}

const directory = mkdtempSync(join(tmpdir(), "baton-test-"));
test.after.always(() => rmSync(directory, { recursive: true }));
test.before(async () => {
  await makeClip(directory, "film.mp4", ["-movflags", "+faststart"]);
});

/** Content with one film, whose validator is the same everywhere. */
function films(): Films {
  const path = join(directory, "film.mp4");
  const open = async () => {
    const { size, dev, ino } = await stat(path);
    const fd = openSync(path, "r");
    const identity = { device: BigInt(dev), inode: BigInt(ino), size, mtimeNs: 0n, ctimeNs: 0n };
    let isOpen = true;
    const close = () => {
      if (isOpen) closeSync(fd);
      isOpen = false;
    };
    return { fd, size, identity, close };
  };
  return new Films({
    find: async (segments) =>
      segments.join() === "film.mp4" ? { objectId: "/film.mp4", validator: "sha256:1", file: await open() } : undefined,
    openObject: async ({ objectId, validator }) => {
      if (objectId !== "/film.mp4" || validator !== "sha256:1") throw new RefusedError("object changed");
      return open();
    },
  });
}

let files = 0;
const memory = {
  memoryFile(bytes: Buffer, position: number): number {
    const path = join(directory, `memory-${files++}`);
    const fd = openSync(path, "w+");
    rmSync(path);
    writeSync(fd, bytes, 0, bytes.length, position);
    return fd;
  },
  closeFd: closeSync,
};

/** @param former whose record and client it goes on with */
function scene(t: ExecutionContext, former?: Scene): Scene {
  const port = new RecordingPort(former?.port.tail() ?? 0);
  port.processedTo = former?.port.processedTo ?? 0;
  const bundle = former?.bundle ?? new FakeBundle();
  port.bundle = bundle;
  const layer = new RtspLayer(port, port.processedTo, films(), memory, { from: 31_000, to: 31_199 });
  t.teardown(() => layer.closed());
  const socket = { on: () => {}, write: (text: string) => layer.input(Buffer.from(text)) };
  const receiver = former?.client ?? new RtspClient(socket as unknown as RtspClient["socket"]);
  let delivered = 0;
  const deliver = () => {
    receiver.received(port.out.subarray(delivered));
    delivered = port.out.length;
  };
  return {
    ...{ port, bundle, layer, client: receiver, deliver },
    ask: (method, target = URL, headers = {}) => {
      const timer = setInterval(deliver, 2);
      return receiver.ask(method, target, headers).finally(() => clearInterval(timer));
    },
  };
}

/** Both tracks, over the connection or in datagrams. */
async function setUp({ ask }: Scene, transports = [`${TCP}0-1`, `${TCP}2-3`]): Promise<{ Session: string }> {
  const [first, second] = transports as [string, string];
  const { headers } = await ask("SETUP", `${URL}/trackID=1`, { Transport: first });
  const session = { Session: headers.get("Session")!.split(";")[0]! };
  await ask("SETUP", `${URL}/trackID=2`, { ...session, Transport: second });
  return session;
}
const UDP = ["RTP/AVP;unicast;client_port=5000-5001", "RTP/AVP;unicast;client_port=5002-5003"];

function sectionOf(layer: RtspLayer): LayerSection {
  const block: LayerSection[] = [];
  layer.checkpoint(block);
  return block[0]!;
}

/** Another server's layer that begins with the section; the client goes on with it. */
async function twin(t: ExecutionContext, former: Scene): Promise<Scene> {
  const section = sectionOf(former.layer);
  former.layer.closed();
  const next = scene(t, former);
  await next.layer.unready(section);
  next.layer.ready();
  return next;
}

const isRun = (numbers: number[]) => numbers.every((number, at) => number === (numbers[0]! + at) % 65_536);
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
  const session = await setUp(one);
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
  next.layer.ready();
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
  const numbers = [...bySequence.keys()].sort((a, b) => ((a - before[0]!) & 0xffff) - ((b - before[0]!) & 0xffff));
  t.true(isRun(numbers), "no hole");
});

test("while its flows stand still nothing is sent, and nothing is lost", async (t) => {
  const one = scene(t);
  await one.ask("PLAY", URL, await setUp(one, UDP));
  await delay(200);
  one.bundle.isOpen = false;
  const count = one.bundle.sent.get(5000)!.length;
  await delay(200);
  t.is(one.bundle.sent.get(5000)!.length, count);
  one.bundle.isOpen = true;
  await eventually("the end", () => one.bundle.sent.get(5001)?.some(saysGoodbye));
  t.true(isRun(sequencesOf(one.bundle.sent.get(5000)!)));
});

test("where no ports can be had, media go over the connection if the client can that too", async (t) => {
  const one = scene(t);
  one.bundle.taken = 1_000;
  const alone = await one.ask("SETUP", `${URL}/trackID=1`, { Transport: UDP[0]! });
  t.is(alone.status, 461);
  const either = await one.ask("SETUP", `${URL}/trackID=1`, { Transport: `${UDP[0]},${TCP}0-1` });
  t.regex(either.headers.get("Transport") ?? "", /interleaved=0-1/);
});
