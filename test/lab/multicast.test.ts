import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import { eventually } from "../support/eventually.js";
import { killAgent } from "../support/fault.js";
import { makeFilm } from "../support/film.js";
import { labTest } from "../support/fixture.js";
import { VIP, VIP6 } from "../support/host.js";
import { assertUnbroken, RtpCapture, type RtpFacts } from "../support/rtp_capture.js";
import { Receiver } from "../support/rtsp.js";

const directory = mkdtempSync(join(tmpdir(), "baton-multicast-"));
/** As test/lab/config.ts has it. */
const FILM = "broadcast.mp4";
const FOUR = { group: "239.77.0.1", base: `rtsp://${VIP}` };
const SIX = { group: "ff15::77:1", base: `rtsp://[${VIP6}]` };
const TTL = 4;
const SECONDS = 10;

const pictures = makeFilm(directory, FILM, SECONDS);
const { test, lab } = labTest({ content: directory }, () => rmSync(directory, { recursive: true }));

const receive = ({ base }: typeof FOUR) => new Receiver(directory, FILM, "udp_multicast", base);

/** The control connection whose bundle sends to a group, once it does. */
function leader({ group }: typeof FOUR) {
  return eventually("somebody sends to the group", async () => {
    const all = await lab.control.connections({ protocol: "rtsp" });
    const flow = all.find(({ client, bytesSent }) => client.includes(group) && Number(bytesSent) > 50_000);
    return flow && all.find(({ id }) => id === flow.bundle);
  });
}

/** Nothing is missing of the flows to a group, each is of one source. @returns the servers of its pictures, in their order */
function sendersOf(t: ExecutionContext, flows: readonly RtpFacts[], { group }: typeof FOUR): string[] {
  const sent = flows.filter(({ address }) => address === group);
  t.is(sent.length, 2);
  for (const flow of sent) {
    t.deepEqual(flow.ttls, [TTL]);
    assertUnbroken(t, flow);
  }
  return sent.find(({ port }) => port === 5_004)!.senders;
}

test("two groups, of IPv4 and IPv6, each with two receivers", async (t) => {
  const capture = await RtpCapture.start("dst net 239.0.0.0/8 or dst net ff15::/16");
  const first = [receive(FOUR), receive(SIX)];
  const leading = await Promise.all([FOUR, SIX].map(leader));
  const second = [receive(FOUR), receive(SIX)];
  for (const { done } of first) {
    const received = await done;
    t.is(received.exit, 0, received.error);
    t.deepEqual(received.pictures, pictures);
  }
  for (const { done } of second) {
    const received = await done;
    t.is(received.exit, 0, received.error);
    t.true(received.pictures.length > 50, `${received.pictures.length} pictures`);
    t.deepEqual(received.pictures, pictures.slice(-received.pictures.length), "from where it came on");
  }
  const { flows } = await capture.stop();
  for (const [at, one] of [FOUR, SIX].entries()) t.deepEqual(sendersOf(t, flows, one), [leading[at]!.owner]);
  await eventually("nothing is left of them", async () => (await lab.control.connections()).length === 0);
});

for (const one of [FOUR, SIX]) {
  test(`a group is sent to on: its server dies, its leader is moved, its leader leaves: ${one.group}`, async (t) => {
    const capture = await RtpCapture.start(`dst host ${one.group}`);
    const leads = receive(one);
    const { id, owner } = await leader(one);
    const listens = receive(one);
    await eventually(
      "both play",
      async () =>
        (await lab.control.connections({ protocol: "rtsp" })).filter(({ bundle, id: own }) => bundle === own).length ===
        2,
    );
    await delay(1_000);
    const events = lab.control.follow();
    killAgent(owner);
    const { to } = await events.next("takeover", ({ kind, connection }) => kind === "takeover" && connection === id);
    events.close();
    await delay(1_000);
    const next = ["s1", "s2", "s3"].find((server) => server !== owner && server !== to)!;
    const moved = await lab.control.move(id, next);
    t.is(moved.result, "ok", moved.reason);
    await delay(1_000);
    leads.close();
    const received = await listens.done;
    t.is(received.exit, 0, received.error);
    t.deepEqual(received.pictures, pictures.slice(-received.pictures.length), "every picture since it came on");
    t.true(received.pictures.length > 100);
    const { flows } = await capture.stop();
    const senders = sendersOf(t, flows, one);
    t.deepEqual(senders.slice(0, 3), [owner, to, next]);
    t.true(senders.length <= 4, senders.join(", "));
    await eventually("nothing is left of them", async () => (await lab.control.connections()).length === 0);
  });
}
