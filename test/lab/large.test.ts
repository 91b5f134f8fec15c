import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { killAgent } from "../support/fault.js";
import { assertSurvived, labTest, watchedDownload } from "../support/fixture.js";

const GIB = 1024 ** 3;
const SIZE = 4 * GIB + 300 * 1024 * 1024;
const content = mkdtempSync("/var/tmp/baton-large-");

// Sparse, with marks on both sides of 2^32, so that bytes of another place would show.
const fd = openSync(`${content}/large.bin`, "w");
ftruncateSync(fd, SIZE);
for (let at = 0; at < SIZE; at += 16 * 1024 * 1024) writeSync(fd, `offset ${at}\n`, at);
closeSync(fd);

const { test, lab } = labTest({ content }, () => rmSync(content, { recursive: true, force: true }));

test("a body over 4 GiB with takeovers before, at and past 2^32", async (t) => {
  const outcome = await watchedDownload("large.bin", { seconds: 110 }, async (download) => {
    for (const at of [1 * GIB, 4 * GIB - 32 * 1024 * 1024, 4 * GIB + 64 * 1024 * 1024]) {
      await download.reached(at);
      const before = await lab.control.connectionOf(download.port, (one) => one.protected && one.phase === "LIVE");
      killAgent(before.owner);
      await lab.control.connectionOf(download.port, (one) => one.owner !== before.owner && one.phase === "LIVE");
    }
  });
  t.is(outcome.result.bytes, SIZE);
  assertSurvived(t, outcome, await lab.digestOf("large.bin"));
});
