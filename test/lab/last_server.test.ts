import { Download } from "../support/download.js";
import { eventually } from "../support/eventually.js";
import { killAgent } from "../support/fault.js";
import { assertSurvived, labTest, watchedDownload } from "../support/fixture.js";

const { test, lab } = labTest({ servers: 1 });
const FILE = "100m.bin";
const BYTES = 100 * 1024 * 1024;
const BACK_MS = 10_000;

test("the only server is killed with nothing to do: it is back, and serves", async (t) => {
  const died = Date.now();
  killAgent("s1");
  await eventually("s1 is UP under a new incarnation", async () => isBack(1), BACK_MS);
  t.log(`UP after ${Date.now() - died} ms`);
  t.is((await new Download("/10m.bin").done).sha256, await lab.digestOf("10m.bin"));
});

test("the only server is killed in a download: its own successor goes on with it, twice", async (t) => {
  let id = "";
  const outcome = await watchedDownload(FILE, { rate: "20M" }, async (download) => {
    for (const part of [0.2, 0.55]) {
      await download.reached(BYTES * part);
      const before = await lab.control.connectionOf(download.port, (one) => one.protected && one.phase === "LIVE");
      id = before.id;
      killAgent("s1");
      const more = (one: { epoch: number; phase: string }) => one.epoch > before.epoch && one.phase === "LIVE";
      await lab.control.connectionOf(download.port, more, BACK_MS);
    }
  });
  assertSurvived(t, outcome, await lab.digestOf(FILE));
  t.log(`longest gap ${outcome.result.longestGapMs.toFixed(0)} ms`);
  const events = (await lab.control.events()).filter((one) => one.kind === "takeover" && one.connection === id);
  t.deepEqual(
    events.map(({ from, to, result }) => [from, to, result]),
    [
      ["s1", "s1", "ok"],
      ["s1", "s1", "ok"],
    ],
  );
});

async function isBack(before: number): Promise<boolean> {
  const [server] = await lab.control.servers();
  return server !== undefined && server.state === "UP" && server.incarnation > before;
}
