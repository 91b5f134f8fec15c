import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { closeWithTest } from "../support/cleanup.js";
import { cutLink, killAgent } from "../support/fault.js";
import { assertSurvived, labTest, watchedDownload } from "../support/fixture.js";
import { pidOf } from "../support/host.js";

const PORT = 8080;
const BYTES = 5e9;
const SERVERS = ["s1", "s2", "s3"];
const MEMORY_MAX_MB = 200;
const MINUTES = 10;
const content = mkdtempSync("/var/tmp/baton-large-");

// Sparse, with marks, so that bytes of another place would show.
const fd = openSync(`${content}/large.bin`, "w");
ftruncateSync(fd, BYTES);
for (let at = 0; at < BYTES; at += 1e6) writeSync(fd, `offset ${at}\n`, at);
closeSync(fd);

const { test, lab } = labTest({ content }, () => rmSync(content, { recursive: true, force: true }));

/** The most memory that any of the servers' workers had so far, in MB: read again and again, for a worker is gone when it is killed. */
class Memory {
  most = 0;
  readonly #timer = setInterval(() => this.#look(), 200);

  constructor() {
    closeWithTest({ close: () => clearInterval(this.#timer) });
  }

  #look(): void {
    for (const server of SERVERS) {
      try {
        const status = readFileSync(`/proc/${pidOf(server, "agent")}/status`, "utf8");
        this.most = Math.max(this.most, Number(/^VmHWM:\s+(\d+) kB/m.exec(status)![1]) / 1000);
      } catch {
        // It was killed a moment ago.
      }
    }
  }
}

test(
  "a protected download of 5 GB loses its agent, then its host: every byte right, and no agent holds much of it",
  async (t) => {
    const memory = new Memory();
    const outcome = await watchedDownload(
      "large.bin",
      { servicePort: PORT, seconds: 60 * MINUTES },
      async (download) => {
        for (const [part, fault] of [
          [0.3, killAgent],
          [0.65, cutLink],
        ] as const) {
          await download.reached(BYTES * part);
          const before = await lab.control.connectionOf(download.port, (one) => one.protected && one.phase === "LIVE");
          await fault(before.owner);
          await lab.control.connectionOf(download.port, (one) => one.owner !== before.owner && one.phase === "LIVE");
        }
      },
    );
    t.is(outcome.result.bytes, BYTES);
    assertSurvived(t, outcome, await lab.digestOf("large.bin"));
    t.true(memory.most > 0 && memory.most <= MEMORY_MAX_MB, `a worker had ${memory.most} MB`);
    t.log(
      `${outcome.result.seconds.toFixed()} s, longest gap ${outcome.result.longestGapMs.toFixed()} ms, ` +
        `a worker had at most ${memory.most.toFixed()} MB`,
    );
  },
  MINUTES * 60_000,
);
