import { setTimeout as delay } from "node:timers/promises";
import { Download } from "../support/download.js";
import { cutLink, killAgent, mendLink, signal } from "../support/fault.js";
import { assertSurvived, labTest, watchedDownload } from "../support/fixture.js";
import { pidOf } from "../support/host.js";
import { labHeal } from "../support/lab.js";

const { test, lab } = labTest();
const FILE = "100m.bin";
const BYTES = 100 * 1024 * 1024;
const AWAY_MS = 10_000;

test("controller killed: live downloads go on, new ones are served", async (t) => {
  const outcome = await watchedDownload(FILE, { rate: "8M" }, async (download) => {
    await download.reached(BYTES / 10);
    signal(pidOf("lb1", "controller"), "SIGKILL");
    const next = new Download("/10m.bin");
    t.is((await next.done).sha256, await lab.digestOf("10m.bin"), "a download that begins without a controller");
    await delay(AWAY_MS);
    const later = new Download("/1m.bin");
    t.is((await later.done).sha256, await lab.digestOf("1m.bin"), "also after ten seconds");
    await labHeal();
  });
  assertSurvived(t, outcome, await lab.digestOf(FILE));
  t.is(outcome.facts.senders.length, 1, "nobody was silenced");
});

test("controller stopped for ten seconds: nobody is silenced, then nor afterwards", async (t) => {
  const outcome = await watchedDownload(FILE, { rate: "8M" }, async (download) => {
    await download.reached(BYTES / 10);
    const controller = signal(pidOf("lb1", "controller"), "SIGSTOP");
    const atStop = download.bytes;
    await delay(AWAY_MS);
    t.true(download.bytes > atStop + BYTES / 4, `${download.bytes - atStop} bytes came meanwhile`);
    signal(controller, "SIGCONT");
  });
  assertSurvived(t, outcome, await lab.digestOf(FILE));
  t.is(outcome.facts.senders.length, 1);
  t.true((await lab.control.servers()).every((server) => server.state === "UP"));
});

test("a controller killed in the middle of a takeover continues it when it is back", async (t) => {
  let id = "";
  let known = 0;
  const outcome = await watchedDownload(FILE, { rate: "15M" }, async (download) => {
    await download.reached(BYTES / 4);
    const before = await lab.control.connectionOf(download.port, (one) => one.protected);
    id = before.id;
    known = (await lab.control.events()).length;
    // Without an answer of the client's the takeover stays open.
    await cutLink("client");
    killAgent(before.owner);
    await lab.control.connectionOf(download.port, (one) => one.phase === "UNREADY");
    signal(pidOf("lb1", "controller"), "SIGKILL");
    await mendLink("client");
    download.pause(); // it is not to be over before it can be seen whose it is
    await labHeal();
    const after = await lab.control.connectionOf(download.port, (one) => one.phase === "LIVE", 20_000);
    t.not(after.owner, before.owner);
    download.goOn();
  });
  assertSurvived(t, outcome, await lab.digestOf(FILE));
  const events = (await lab.control.events()).slice(known).filter(({ connection }) => connection === id);
  t.deepEqual(
    events.map(({ kind, result }) => [kind, result]),
    [["takeover", "ok"]],
    "one takeover, and no move",
  );
});
