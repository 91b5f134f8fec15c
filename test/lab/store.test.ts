import { setTimeout as delay } from "node:timers/promises";
import { eventually } from "../support/eventually.js";
import { killAgent, signal } from "../support/fault.js";
import { assertSurvived, labTest, watchedDownload } from "../support/fixture.js";
import { lives, pidOf } from "../support/host.js";

const { test, lab } = labTest();
const FILE = "100m.bin";
const BYTES = 100 * 1024 * 1024;

test("nats-server killed: a new one within a second, everything pauses and goes on", async (t) => {
  const outcome = await watchedDownload(FILE, { rate: "15M" }, async (download) => {
    await download.reached(BYTES / 4);
    const before = await lab.control.connectionOf(download.port, (one) => one.protected);
    const nats = signal(pidOf("lb1", "nats"), "SIGKILL");
    await eventually(
      "another nats-server",
      () => {
        const now = pidOf("lb1", "nats");
        return now !== nats && lives(now);
      },
      1000,
    );
    await download.reached(BYTES / 2);
    const after = await lab.control.connectionOf(download.port);
    t.is(after.owner, before.owner, "nobody died, nobody was taken over");
    t.is(after.epoch, before.epoch);
  });
  assertSurvived(t, outcome, await lab.digestOf(FILE));
  t.is(outcome.facts.senders.length, 1);
});

test("an agent killed just after the store came back is taken over as ever", async (t) => {
  const outcome = await watchedDownload(FILE, { rate: "15M" }, async (download) => {
    await download.reached(BYTES / 4);
    const before = await lab.control.connectionOf(download.port, (one) => one.protected);
    signal(pidOf("lb1", "nats"), "SIGKILL");
    await eventually("every server is UP", async () =>
      (await lab.control.servers()).every((one) => one.state === "UP"),
    );
    await eventually("the store is connected", async () => (await lab.control.status()).store?.connected === true);
    killAgent(before.owner);
    await lab.control.connectionOf(download.port, (one) => one.owner !== before.owner && one.phase === "LIVE", 20_000);
  });
  assertSurvived(t, outcome, await lab.digestOf(FILE));
});

test("store and agent killed in the same moment", async (t) => {
  const outcome = await watchedDownload(FILE, { rate: "15M" }, async (download) => {
    await download.reached(BYTES / 4);
    const before = await lab.control.connectionOf(download.port, (one) => one.protected);
    signal(pidOf("lb1", "nats"), "SIGKILL");
    killAgent(before.owner);
    await delay(1);
  });
  assertSurvived(t, outcome, await lab.digestOf(FILE));
});
