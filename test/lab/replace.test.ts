import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { stringify } from "yaml";
import type { ConnectionMessage } from "../../proto/rpc/index.js";
import { Capture, factsOf } from "../support/capture.js";
import { Dialer } from "../support/dialer.js";
import { Download } from "../support/download.js";
import { eventually } from "../support/eventually.js";
import { killAgent, signal } from "../support/fault.js";
import { assertOneConnection, labTest } from "../support/fixture.js";
import { cgroupMount, LAB, lives, pidOf } from "../support/host.js";
import { get, ResponseReader } from "../support/http.js";
import { logOf } from "../support/lab.js";
import { Replacement } from "../support/replacement.js";
import { Witness } from "../support/witness.js";
import { labConfig } from "./config.js";

const MIB = 1024 * 1024;
const SERVERS = ["s1", "s2", "s3"];
const directory = mkdtempSync(join(tmpdir(), "baton-replace-"));
const config = join(directory, "config.yaml");
const asAlways = labConfig({ servers: SERVERS.length, content: `${LAB}/content`, cgroups: cgroupMount() });
/** Whose a connection is must not change, and whatever else runs on the machine may be a load. */
writeFileSync(config, stringify({ ...asAlways, overload: { mode: "off" } }));
const { test, lab } = labTest({ config }, () => rmSync(directory, { recursive: true }));
/** curl's limit works in bursts of some megabytes: a smaller file would be over at once. */
const FILE = "100m.bin";

const identityOf = ({ id, owner, epoch }: ConnectionMessage) => `${id} ${owner} ${epoch}`;

async function assertWhole(t: ExecutionContext, downloads: Download[]): Promise<void> {
  const wanted = await lab.digestOf(FILE);
  const results = await Promise.all(downloads.map((download) => download.finish()));
  t.deepEqual(
    results.filter((one) => one.sha256 !== wanted || one.exit !== 0 || one.connects !== 1),
    [],
  );
}

async function started(number: number, rate: string): Promise<Download[]> {
  const downloads = Array.from({ length: number }, () => new Download(`/${FILE}`, { rate, seconds: 110 }));
  await Promise.all(downloads.map((download) => download.reached(64 * 1024)));
  return downloads;
}

/** Short downloads, one after the other, until it is stopped. */
function newClients(): { stop(): Promise<{ done: number; failed: unknown[] }> } {
  let stopped = false;
  const run = async () => {
    const wanted = await lab.digestOf("1k.bin");
    const failed: unknown[] = [];
    let done = 0;
    while (!stopped) {
      const result = await new Download("/1k.bin", { seconds: 10 }).done;
      done++;
      if (result.exit !== 0 || result.sha256 !== wanted) failed.push(result);
    }
    return { done, failed };
  };
  const running = run();
  return {
    stop: () => {
      stopped = true;
      return running;
    },
  };
}

test("every agent is replaced twice, and no client notices", async (t) => {
  const dialer = await Dialer.start();
  const [talker, idle, shut] = [await dialer.connect(), await dialer.connect(), await dialer.connect({ ipv6: true })];
  const readers = [talker, shut].map(({ socket }) => new ResponseReader(socket));
  const [talk, shutReader] = readers as [ResponseReader, ResponseReader];
  talker.socket.write(get("/1m.bin"));
  t.is((await talk.next()).sha256, await lab.digestOf("1m.bin"));
  shut.socket.end(get("/100m.bin"));
  t.is((await shutReader.head()).status, 200);
  const hash = createHash("sha256");
  await shutReader.read(MIB, hash);
  const downloads = await started(25, "2M");
  const kept = [...downloads.map(({ port }) => port), talker.localPort, idle.localPort, shut.localPort];
  const ofKept = async () =>
    (await lab.control.connections()).filter((one) => kept.some((port) => one.client.endsWith(`:${port}`)));
  const before = await eventually("a record of each", async () => {
    const present = await ofKept();
    return present.length === kept.length && present.every((one) => one.protected) && present;
  });
  const capture = await Capture.start();
  const witness = await Witness.start();
  const known = (await lab.control.events()).length;
  const fresh = newClients();

  const request = get("/100k.bin", { "x-padding": "p".repeat(600) });
  talker.socket.write(request.slice(0, 300));
  for (let round = 1; round <= 2; round++) {
    for (const server of SERVERS) {
      const [old, worker] = [pidOf(server, "supervisor"), pidOf(server, "agent")];
      const began = performance.now();
      await new Replacement(server).done();
      t.log(`${server} replaced in ${Math.round(performance.now() - began)} ms`);
      t.false(lives(old) || lives(worker), "the old agent has ended");
      t.true(lives(pidOf(server, "agent")));
    }
    if (round > 1) break;
    talker.socket.write(request.slice(300));
    t.is((await talk.next()).sha256, await lab.digestOf("100k.bin"));
  }
  const after = await eventually("each is protected again", async () => {
    const present = await ofKept();
    return present.length === kept.length && present.every((one) => one.protected) && present;
  });
  t.deepEqual(after.map(identityOf).sort(), before.map(identityOf).sort(), "same owners, same epochs");
  const { done, failed } = await fresh.stop();
  t.deepEqual(failed, []);
  t.true(done > 20, `${done} new connections`);

  idle.socket.write(get("/1k.bin"));
  t.is((await new ResponseReader(idle.socket).next()).sha256, await lab.digestOf("1k.bin"));
  await shutReader.read(99 * MIB, hash);
  t.is(hash.digest("hex"), await lab.digestOf("100m.bin"));
  t.true(await shutReader.ended());
  await assertWhole(t, downloads);
  const events = (await lab.control.events()).slice(known);
  t.deepEqual(
    events.filter(({ kind }) => kind !== "controller"),
    [],
    "nothing was moved, taken over, held",
  );
  await witness.assertUndisturbed(t);
  const segments = await capture.stop();
  for (const port of kept) t.deepEqual(factsOf(segments, port).resets, [], `port ${port}`);
});

test("a successor that dies before it is prepared: the old agent goes on, and can be replaced afterwards", async (t) => {
  const downloads = await started(10, "5M");
  const [supervisor, worker] = [pidOf("s1", "supervisor"), pidOf("s1", "agent")];
  const log = logOf("s1", "agent");
  const failing = new Replacement("s1");
  await eventually("it has asked", () => log().includes("another agent prepares"));
  signal(failing.pid, "SIGKILL");
  await failing.ended;
  await eventually("the old one has said that it goes on", () => log().includes("this agent is not replaced"));
  t.deepEqual([pidOf("s1", "supervisor"), pidOf("s1", "agent")], [supervisor, worker]);
  t.true(lives(supervisor) && lives(worker));
  await new Replacement("s1").done();
  await assertWhole(t, downloads);
});

test("a worker that is killed right after it got everything is taken over", async (t) => {
  const capture = await Capture.start();
  const downloads = await started(15, "4M");
  const owned = async () => (await lab.control.connections()).some((one) => one.owner === "s1");
  while (!(await owned()) && downloads.length < 45) downloads.push(...(await started(1, "4M")));
  const worker = pidOf("s1", "agent");
  const replacement = new Replacement("s1");
  await eventually("the new worker has everything", () => pidOf("s1", "agent") !== worker, 30_000, 1);
  killAgent("s1");
  await replacement.done();
  await eventually("s1 is back", async () =>
    (await lab.control.servers()).some((one) => one.id === "s1" && one.state === "UP"),
  );
  t.true((await lab.control.events()).some((one) => one.kind === "takeover" && one.from === "s1"));
  await assertWhole(t, downloads);
  const segments = await capture.stop();
  for (const download of downloads) assertOneConnection(t, factsOf(segments, download.port));
});

test("where no agent runs it says so", async (t) => {
  const supervisor = signal(pidOf("s2", "supervisor"), "SIGTERM");
  await eventually("s2's agent has ended", () => !lives(supervisor), 40_000);
  const { code, stderr } = await new Replacement("s2").ended;
  t.is(code, 1);
  t.regex(stderr, /^baton: No agent for s2 is running here: start this one without --replace\.\n$/);
});
