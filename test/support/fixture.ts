import test, { type ExecutionContext } from "ava";
import { Capture, type ConnectionFacts, factsOf } from "./capture.js";
import { closeAll } from "./cleanup.js";
import { Control } from "./control.js";
import { Download, type DownloadOptions, type DownloadResult } from "./download.js";
import { LAB } from "./host.js";
import { API, type LabOptions, labDown, labHeal, labUp } from "./lab.js";
import { sha256Of } from "./sha256.js";

/** What a test of the lab works with. The tests of a file share one lab, one after the other. */
export interface Lab {
  control: Control;
  /** SHA-256 of a file that the lab serves, or of its bytes from `start` up to `end`. */
  digestOf(name: string, start?: number, end?: number): Promise<string>;
}

export const TEST_MS = 120_000;

type LabTest = (title: string, play: (t: ExecutionContext) => Promise<void>, timeoutMs?: number) => void;

/**
 * `test` for a file of lab tests: a lab is started before the first one, mended after each, removed after the last.
 * Tests run one after the other, each with a deadline of its own.
 * @param cleanUp called when the lab is gone
 */
export function labTest(options: LabOptions = {}, cleanUp: () => void = () => {}): { test: LabTest; lab: Lab } {
  const digests = new Map<string, Promise<string>>();
  const lab: Lab = {
    control: new Control(API),
    digestOf(name, start, end) {
      const key = `${name} ${start} ${end}`;
      const path = `${options.content ?? `${LAB}/content`}/${name}`;
      const digest = digests.get(key) ?? sha256Of(path, start, end);
      digests.set(key, digest);
      return digest;
    },
  };
  test.before("the lab starts", async (t) => {
    t.timeout(TEST_MS);
    await labUp(options);
  });
  test.afterEach.always("the lab is mended", async (t) => {
    t.timeout(TEST_MS);
    await labHeal();
  });
  test.after.always("the lab is removed", async (t) => {
    t.timeout(TEST_MS);
    lab.control.close();
    await labDown();
    cleanUp();
  });
  return {
    lab,
    test(title, play, timeoutMs = TEST_MS) {
      test.serial(title, async (t) => {
        t.timeout(timeoutMs);
        try {
          await play(t);
        } finally {
          closeAll();
        }
      });
    },
  };
}

export interface Outcome {
  download: Download;
  result: DownloadResult;
  facts: ConnectionFacts;
}

/** A download under capture during which something happens; its rate is that of this time. */
export async function watchedDownload(
  name: string,
  options: DownloadOptions,
  during: (download: Download) => Promise<void>,
): Promise<Outcome> {
  const capture = await Capture.start(`tcp port ${options.servicePort ?? 80}`);
  const download = new Download(`/${name}`, options);
  try {
    await during(download);
    const result = await download.finish();
    return { download, result, facts: factsOf(await capture.stop(), download.port) };
  } catch (error) {
    download.abort();
    await capture.stop().catch(() => {});
    throw error;
  }
}

/** The whole claim: every byte right, one TCP connection, nothing that looked like an ending before the end. */
export function assertSurvived(t: ExecutionContext, outcome: Outcome, sha256: string): void {
  const { result, facts } = outcome;
  t.is(result.exit, 0, `curl: ${result.error} after ${result.bytes} bytes`);
  t.is(result.sha256, sha256, "every byte is right");
  t.is(result.connects, 1, "curl opened one connection");
  assertOneConnection(t, facts);
}

/** One handshake, no reset, and no FIN of the server's but behind its last byte. */
export function assertOneConnection(t: ExecutionContext, facts: ConnectionFacts): void {
  t.is(facts.clientIsns.length, 1, "one TCP connection on the wire");
  t.is(facts.serverIsns.length, 1, "one handshake");
  t.deepEqual(facts.resets, [], "no reset in either direction");
  t.true(new Set(facts.serverFins.map((fin) => fin.seq + fin.payload)).size <= 1, "one end at most");
}
