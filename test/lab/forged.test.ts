import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Segment as Forged } from "../../agent/native/api.js";
import { add } from "../../proto/sequence.js";
import { Capture, factsOf } from "../support/capture.js";
import { Download } from "../support/download.js";
import { cutLink } from "../support/fault.js";
import { assertSurvived, labTest } from "../support/fixture.js";
import { Forger } from "../support/forger.js";
import { CLIENT, VIP } from "../support/host.js";

const { test, lab } = labTest();
const FILE = "100m.bin";
const BYTES = 100 * 1024 * 1024;
const [SYN, RST, ACK] = [2, 4, 16];
const random = () => randomBytes(4).readUInt32BE();

/** What somebody who knows the 5-tuple, but not the connection's state, would send to hurt it. */
function forgeries(port: number): Forged[] {
  const ends = { local: { address: CLIENT, port }, remote: { address: VIP, port: 80 }, window: 65_535 };
  const stamps = { value: random(), echo: random() };
  return [
    { ...ends, seq: random(), ack: random(), flags: ACK, timestamps: stamps },
    { ...ends, seq: random(), ack: random(), flags: ACK },
    { ...ends, seq: random(), ack: 0, flags: SYN },
    { ...ends, seq: random(), ack: random(), flags: RST | ACK },
    { ...ends, seq: random(), ack: 0, flags: RST },
    { ...ends, seq: random(), ack: random(), flags: ACK, payload: randomBytes(64) },
  ];
}

test("forged acks, SYNs and RSTs with the client's tuple move nothing while it is held", async (t) => {
  const capture = await Capture.start();
  const forger = await Forger.start();
  const download = new Download(`/${FILE}`, { rate: "20M" });
  await download.reached(BYTES / 4);
  const before = await lab.control.connectionOf(download.port, (one) => one.protected);

  let sent = 0;
  let over = false;
  const flood = (async () => {
    while (!over) {
      sent += await forger.send(...forgeries(download.port));
      await delay(1);
    }
  })();
  await cutLink(before.owner);
  const after = await lab.control.connectionOf(
    download.port,
    (one) => one.owner !== before.owner && one.phase === "LIVE",
  );
  over = true;
  await flood;
  t.is(after.id, before.id, "a forged SYN makes no new connection");
  t.true(sent > 300, `${sent} forged segments`);

  const result = await download.finish();
  const segments = await capture.stop();
  // The forger speaks with the client's own address: only what the servers said counts.
  const said = segments.filter((one) => !one.fromClient);
  assertSurvived(
    t,
    { download, result, facts: { ...factsOf(said, download.port), clientIsns: [0] } },
    await lab.digestOf(FILE),
  );
  t.is((await lab.control.connections()).filter((one) => one.client.endsWith(`:${download.port}`)).length <= 1, true);
  forger.close();
});

test("an ack just past what was promised moves nothing either", async (t) => {
  const capture = await Capture.start();
  const forger = await Forger.start();
  const download = new Download(`/${FILE}`, { rate: "20M" });
  await download.reached(BYTES / 4);
  const before = await lab.control.connectionOf(download.port, (one) => one.protected);
  const { currentSeq, initialSeq } = await lab.control.connection(before.id);
  const ends = { local: { address: CLIENT, port: download.port }, remote: { address: VIP, port: 80 }, window: 65_535 };
  await cutLink(before.owner);
  // Its client sequence number is exactly right, as an eavesdropper's would be; its ack lies behind the last byte.
  await forger.send({ ...ends, seq: currentSeq!.client, ack: add(initialSeq!.server, 2 * BYTES), flags: ACK });
  await lab.control.connectionOf(download.port, (one) => one.owner !== before.owner && one.phase === "LIVE");
  const result = await download.finish();
  assertSurvived(
    t,
    { download, result, facts: factsOf(await capture.stop(), download.port) },
    await lab.digestOf(FILE),
  );
  forger.close();
});
