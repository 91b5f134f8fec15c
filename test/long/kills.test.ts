import { setTimeout as delay } from "node:timers/promises";
import { cutLink, killAgent } from "../support/fault.js";
import { assertSurvived, labTest, watchedDownload } from "../support/fixture.js";
import { labHeal } from "../support/lab.js";

const { test, lab } = labTest();
const KILLS_A_KIND = 50;
const ONE_KILL_MS = 60_000;

for (const [kind, fault] of Object.entries({ "agent killed": killAgent, "host cut off": cutLink })) {
  test(
    `${KILLS_A_KIND} in a row at random moments of downloads: ${kind}`,
    async (t) => {
      for (let kill = 0; kill < KILLS_A_KIND; kill++) {
        const outcome = await watchedDownload("100m.bin", { rate: "50M" }, async (download) => {
          // From before the first byte to shortly before the last one.
          await delay(Math.random() * 1600);
          const before = await lab.control.connectionOf(download.port);
          await fault(before.owner);
        });
        assertSurvived(t, outcome, await lab.digestOf("100m.bin"));
        await labHeal();
      }
    },
    KILLS_A_KIND * ONE_KILL_MS,
  );
}
