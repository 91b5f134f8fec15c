import { mkdtempSync, rmSync } from "node:fs";
import { add } from "../../proto/sequence.js";
import { Capture, factsOf } from "../support/capture.js";
import { Download } from "../support/download.js";
import { killAgent } from "../support/fault.js";
import { labTest } from "../support/fixture.js";
import { get } from "../support/http.js";
import { Puppet } from "../support/puppet.js";
import { sha256Of } from "../support/sha256.js";
import { writeRandomFile } from "./content.js";

const MIB = 1024 * 1024;
const content = mkdtempSync("/var/tmp/baton-same-");
const other = mkdtempSync("/var/tmp/baton-other-");
writeRandomFile(`${content}/film.bin`, "film", 64 * MIB);
writeRandomFile(`${other}/film.bin`, "another film", 64 * MIB);
writeRandomFile(`${content}/same.bin`, "same", 64 * MIB);
writeRandomFile(`${other}/same.bin`, "same", 64 * MIB);

const { test, lab } = labTest({ servers: 2, content, ownContent: { s2: other } }, () => {
  for (const directory of [content, other]) rmSync(directory, { recursive: true, force: true });
});

/** A download that s1 owns: which server gets one is the hash's decision, so some are thrown away. */
async function downloadFromS1(path: string): Promise<Download> {
  for (let tries = 0; tries < 20; tries++) {
    const download = new Download(path, { rate: "8M" });
    await download.reached(MIB);
    const connection = await lab.control.connectionOf(download.port, (one) => one.protected);
    if (connection.owner === "s1") return download;
    download.abort();
    await download.done;
  }
  throw new Error("s1 gets no connection");
}

test("a survivor that has another file under the name resets the client: never a wrong byte", async (t) => {
  const capture = await Capture.start();
  const events = lab.control.follow();
  const download = await downloadFromS1("/film.bin");
  const before = await lab.control.connectionOf(download.port);
  killAgent("s1");
  const event = await events.next("refused", (one) => one.kind === "takeover" && one.connection === before.id);
  t.is(event.result, "refused");
  t.regex(event.reason, /object|content|validator/i);
  const result = await download.finish();
  events.close();
  t.is(result.exit, 56, `curl says that the connection was reset: ${result.error}`);
  t.is(result.sha256, await sha256Of(`${content}/film.bin`, 0, result.bytes), "what it got is right");
  const facts = factsOf(await capture.stop(), download.port);
  t.true(
    facts.resets.some((one) => !one.fromClient),
    "the reset is on the wire",
  );
  t.deepEqual(facts.serverFins, []);
});

test("the same file on that survivor is good enough", async (t) => {
  const download = await downloadFromS1("/same.bin");
  killAgent("s1");
  const result = await download.finish();
  t.is(result.exit, 0, result.error);
  t.is(result.sha256, await sha256Of(`${content}/same.bin`));
});

test("answers with an ack outside the record are refused, after two of them", async (t) => {
  const capture = await Capture.start();
  const events = lab.control.follow();
  const puppet = await Puppet.start(capture, ["s1", "s2"]);
  await puppet.connect();
  await puppet.write(get("/same.bin"));
  const connection = await lab.control.connectionOf(puppet.port, (one) => one.protected && one.bytesSent > 0);
  // From now on it claims to have far more than anybody has promised.
  puppet.answer = () => ({ seq: puppet.seq, ack: add(puppet.received, 600 * MIB) });
  killAgent(connection.owner);
  const event = await events.next("refused", (one) => one.kind === "takeover" && one.connection === connection.id);
  t.is(event.result, "refused");
  t.regex(event.reason, /ack/i);
  events.close();
  puppet.close();
  const facts = factsOf(await capture.stop(), puppet.port);
  t.true(
    facts.resets.some((one) => !one.fromClient),
    "it is told",
  );
});
