import { setTimeout as delay } from "node:timers/promises";
import test from "ava";
import type { BundlePort } from "../../../agent/protocols/application.js";
import { MediaFlows } from "../../../agent/protocols/rtsp/media_flows.js";
import type { RtspTrack } from "../../../proto/sections.js";

const SSRC = 0x1234;
const TRACK = {
  ...{ number: 1, ssrc: SSRC, sequence: 1, timestamp: 2, transport: "udp" },
  ...{ rtp: 5000, rtcp: 5001, serverRtp: 31_000, serverRtcp: 31_001 },
} as RtspTrack;

/** RFC 3550 section 6.4.2. @param about sources */
function receiverReport(...about: number[]): Buffer {
  const packet = Buffer.alloc(8 + 24 * about.length);
  packet[0] = 0x80 | about.length;
  packet[1] = 201;
  packet.writeUInt16BE(packet.length / 4 - 1, 2);
  for (const [at, ssrc] of about.entries()) packet.writeUInt32BE(ssrc, 8 + 24 * at);
  return packet;
}

/** A session's flows, and its client's ports. */
async function scene() {
  const received = new Map<number, (datagram: Buffer) => void>();
  const bundle: Pick<BundlePort, "openDatagrams"> = {
    openDatagrams: async (_vipPort, clientPort, said) => {
      received.set(clientPort, said);
      return { pending: 0, isOpen: true, send: () => {}, thawed: () => Promise.resolve(), close: () => {} };
    },
  };
  const flows = new MediaFlows(bundle as BundlePort, [TRACK]);
  await flows.open();
  /** Whether that was a sign of life. */
  const isHeard = async (port: number, datagram: Buffer) => {
    await delay(5);
    const before = flows.quietMs;
    received.get(port)?.(datagram);
    return flows.quietMs < before;
  };
  return { flows, isHeard };
}

test("before there are media whatever comes is a sign of life", async (t) => {
  const { isHeard } = await scene();
  t.true(await isHeard(5000, Buffer.alloc(0)));
  t.true(await isHeard(5001, Buffer.from("open, please")));
});

test("then a report about them is, or an empty one, and nothing else", async (t) => {
  const { flows, isHeard } = await scene();
  flows.send(1, "rtp", Buffer.from("media"));
  t.true(await isHeard(5001, receiverReport(SSRC)));
  t.true(await isHeard(5001, receiverReport(7, SSRC)));
  t.true(await isHeard(5001, receiverReport()));
  t.false(await isHeard(5001, receiverReport(7)), "about another source");
  t.false(await isHeard(5001, receiverReport(SSRC).subarray(0, 20)), "cut short");
  t.false(await isHeard(5001, Buffer.alloc(0)));
  t.false(await isHeard(5000, receiverReport(SSRC)), "where no report belongs");
});
