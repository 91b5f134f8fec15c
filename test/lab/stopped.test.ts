import { setTimeout as delay } from "node:timers/promises";
import { Capture, factsOf } from "../support/capture.js";
import { Download } from "../support/download.js";
import { stopServer } from "../support/fault.js";
import { assertSurvived, labTest } from "../support/fixture.js";
import { macOf } from "../support/host.js";

const { test, lab } = labTest();
const FILE = "100m.bin";
const BYTES = 100 * 1024 * 1024;

test("a server paused past its lease and woken later sends not one more segment", async (t) => {
  const capture = await Capture.start();
  const download = new Download(`/${FILE}`, { rate: "15M" });
  await download.reached(BYTES / 4);
  const before = await lab.control.connectionOf(download.port, (one) => one.protected);
  const wake = stopServer(before.owner);
  const after = await lab.control.connectionOf(
    download.port,
    (one) => one.owner !== before.owner && one.phase === "LIVE",
  );
  t.not(after.owner, before.owner);
  const wokenUs = Date.now() * 1000;
  wake();
  // Its kernel still has the socket, with data queued and timers running.
  await delay(2000);
  const result = await download.done;
  const segments = await capture.stop();
  assertSurvived(t, { download, result, facts: factsOf(segments, download.port) }, await lab.digestOf(FILE));
  const late = segments.filter(
    (one) => one.mac === macOf(before.owner) && one.client.port === download.port && one.timeUs >= wokenUs,
  );
  t.deepEqual(late, [], "the woken server is silent");
});
