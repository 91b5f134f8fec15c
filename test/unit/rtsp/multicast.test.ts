import { setTimeout as delay } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { BatonError, RefusedError } from "../../../proto/errors.js";
import { decodeRtspSection, encodeRtspSection } from "../../../proto/sections.js";
import { eventually } from "../../support/eventually.js";
import { saysGoodbye } from "../../support/rtsp.js";
import { FakeSite, makeFilm, type Scene, scene, sectionOf, setUp, twin, URL } from "./scene.js";

const GROUP = "239.1.2.3";
const MULTICAST = ["RTP/AVP;multicast", "RTP/AVP;multicast"];
const VIDEO = 6_000;
const AUDIO = 6_002;

let remove = () => {};
test.before(async () => {
  remove = await makeFilm();
});
test.after.always(() => remove());

function site(): FakeSite {
  return new FakeSite([{ file: "/film.mp4", group: GROUP, port: VIDEO, ttl: 5 }]);
}

const sessionOf = ({ layer }: Scene) => decodeRtspSection(sectionOf(layer)).session;
/** Or is about to find out whether it does. */
const leads = (one: Scene) => sessionOf(one)?.leads === true;
const sends = ({ bundle }: Scene) => bundle.groups.size > 0;

/** The connection is over, and its record is gone. */
function end(one: Scene): void {
  one.layer.closed();
  one.site.commit(one.port.id, undefined);
}

/** @param whole it was not begun twice */
async function sentToItsEnd(t: ExecutionContext, { sent }: FakeSite, whole = true): Promise<void> {
  await eventually("the end", () => [VIDEO, AUDIO].every((port) => sent.get(port + 1)?.some(saysGoodbye)));
  for (const port of [VIDEO, AUDIO]) {
    const packets = sent.get(port)!;
    t.is(new Set(packets.map((packet) => packet.readUInt32BE(8))).size, 1, "one source");
    if (!whole) continue;
    const first = packets[0]!.readUInt16BE(2);
    const places = packets.map((packet) => (packet.readUInt16BE(2) - first + 65_536) % 65_536);
    // Whoever goes on sends in reverse what may have been sent.
    const all = [...new Set(places)].sort((a, b) => a - b);
    t.deepEqual(all, [...all.keys()], "no hole");
  }
}

async function playing(t: ExecutionContext, of: FakeSite): Promise<{ one: Scene; session: { Session: string } }> {
  const one = scene(t, { site: of });
  const session = await setUp(one, MULTICAST);
  t.is((await one.ask("PLAY", URL, session)).status, 200);
  return { one, session };
}

test("a group is described, and said to whoever sets it up", async (t) => {
  const one = scene(t, { site: site() });
  const { body } = await one.ask("DESCRIBE");
  t.regex(body, /c=IN IP4 239\.1\.2\.3\/5\r\n/);
  t.regex(body, /m=video 6000 RTP\/AVP 96/);
  t.regex(body, /m=audio 6002 RTP\/AVP 97/);
  const { headers } = await one.ask("SETUP", `${URL}/trackID=2`, { Transport: "RTP/AVP;multicast" });
  t.regex(headers.get("Transport") ?? "", /^RTP\/AVP;multicast;destination=239\.1\.2\.3;port=6002-6003;ttl=5;ssrc=/);
  const session = { Session: headers.get("Session")!.split(";")[0]! };
  const other = { ...session, Transport: "RTP/AVP;unicast;client_port=5000-5001" };
  t.is((await one.ask("SETUP", `${URL}/trackID=1`, other)).status, 461, "one kind a session");
});

test("what one leads the other gets; both are there at the end", async (t) => {
  const shared = site();
  const { one } = await playing(t, shared);
  const { one: other, session } = await playing(t, shared);
  t.true(leads(one));
  t.false(leads(other));
  t.deepEqual(
    [...one.bundle.groups.values()].toSorted((a, b) => a.port - b.port),
    [6_000, 6_001, 6_002, 6_003].map((port) => ({ address: GROUP, port, ttl: 5 })),
  );
  t.is(other.bundle.groups.size, 0);
  const again = await other.ask("PLAY", URL, { ...session, Range: "npt=1-" });
  t.regex(again.headers.get("Range") ?? "", /^npt=0\.\d+-2/, "it is not wound");
  t.deepEqual(
    one.layer.flows().map(({ name, clientAddress, clientPort }) => `${name} ${clientAddress} ${clientPort}`),
    [`video rtp ${GROUP} 6000`, `video rtcp ${GROUP} 6001`, `audio rtp ${GROUP} 6002`, `audio rtcp ${GROUP} 6003`],
  );
  t.deepEqual(other.layer.flows(), []);
  await sentToItsEnd(t, shared);
  for (const each of [one, other]) {
    await eventually("it has ended", () => sessionOf(each)?.ended);
    t.is(each.bundle.groups.size, 0);
  }
  const onceMore = await other.ask("PLAY", URL, session);
  t.is(onceMore.headers.get("Range")?.split("-")[0], "npt=0.000");
  t.true(leads(other));
});

for (const [how, stop] of [
  ["is torn down", (one: Scene, session: { Session: string }) => one.ask("TEARDOWN", URL, session)],
  ["is paused", (one: Scene, session: { Session: string }) => one.ask("PAUSE", URL, session)],
  ["is over", async (one: Scene) => end(one)],
] as const) {
  test(`when whoever leads ${how} another one goes on`, async (t) => {
    const shared = site();
    const { one, session } = await playing(t, shared);
    const { one: other } = await playing(t, shared);
    const { one: third } = await playing(t, shared);
    await delay(300);
    await stop(one, session);
    await eventually("one of the others sends", () => [other, third].some(sends));
    t.is([one, other, third].filter(sends).length, 1);
    await eventually("and it alone leads", () => [other, third].filter(leads).length === 1);
    await sentToItsEnd(t, shared);
  });
}

test("whoever leads goes on leading on another server, and who listens listens there", async (t) => {
  const shared = site();
  let { one } = await playing(t, shared);
  let { one: other } = await playing(t, shared);
  for (let takeovers = 0; takeovers < 2; takeovers++) {
    await delay(200);
    one = await twin(t, one);
    other = await twin(t, other);
    await eventually("it sends", () => one.bundle.groups.size === 4);
    t.true(leads(one));
    t.false(leads(other));
  }
  end(one);
  await eventually("the other one leads", () => leads(other) && other.bundle.groups.size === 4);
  await sentToItsEnd(t, shared);
});

test("of many that begin at once one leads", async (t) => {
  const shared = site();
  const all = await Promise.all(Array.from({ length: 5 }, () => playing(t, shared)));
  t.is(all.filter(({ one }) => leads(one)).length, 1);
  t.is(all.filter(({ one }) => one.bundle.groups.size > 0).length, 1);
  t.true(all.every(({ one }) => sessionOf(one)?.playing));
});

test("who leads and pauses alone goes on where it was", async (t) => {
  const shared = site();
  const { one, session } = await playing(t, shared);
  await delay(300);
  const paused = await one.ask("PAUSE", URL, session);
  t.is(one.bundle.groups.size, 0);
  const stopped = [...shared.sent.values()].flat().length;
  await delay(100);
  t.is([...shared.sent.values()].flat().length, stopped, "nothing is sent");
  const again = await one.ask("PLAY", URL, session);
  const [first, second] = [paused, again].map(({ headers }) => Number(/=([\d.]+)/.exec(headers.get("Range")!)![1]));
  t.true(Math.abs(second! - first!) <= 0.04, `${first} and ${second}`);
  await sentToItsEnd(t, shared);
});

test("who led, and listens now, sends nothing on another server", async (t) => {
  const shared = site();
  const { one, session } = await playing(t, shared);
  const { one: other } = await playing(t, shared);
  await one.ask("PAUSE", URL, session);
  await eventually("the other one leads", () => leads(other) && sends(other));
  t.is((await one.ask("PLAY", URL, session)).status, 200);
  t.false(leads(one));
  const next = await twin(t, one);
  await delay(100);
  t.is(next.bundle.groups.size, 0);
});

test("one that leads another film's group leaves this one free", async (t) => {
  const shared = new FakeSite([
    { file: "/film.mp4", group: GROUP, port: VIDEO, ttl: 5 },
    { file: "/gone.mp4", group: "239.1.2.4", port: VIDEO, ttl: 5 },
  ]);
  const { one } = await playing(t, shared);
  const section = decodeRtspSection(sectionOf(one.layer));
  end(one);
  // Its connection goes on with another film, and has the lead of this one's group still.
  const session = { ...section.session!, objectId: "/gone.mp4" };
  shared.commit(one.port.id, encodeRtspSection({ ...section, session }));
  const { one: other } = await playing(t, shared);
  t.true(leads(other));
  await sentToItsEnd(t, shared, false);
});

test("a group that the next server does not know is a reason to refuse, and nothing else", async (t) => {
  const shared = site();
  await playing(t, shared);
  const { one: listens } = await playing(t, shared);
  const next = scene(t, { ...listens, site: new FakeSite([]) });
  await t.throwsAsync(next.layer.unready(sectionOf(listens.layer)), { instanceOf: RefusedError });
});

test("a lead that cannot be taken is said, and nothing is sent", async (t) => {
  const shared = site();
  const one = scene(t, { site: shared });
  const session = await setUp(one, MULTICAST);
  shared.take = () => Promise.reject(new BatonError("STORE_UNAVAILABLE", "it is away"));
  t.is((await one.ask("PLAY", URL, session)).status, 503);
  t.is(one.bundle.groups.size, 0);
  t.false(leads(one));
  t.false(sessionOf(one)?.playing, "it may be tried again");
});
