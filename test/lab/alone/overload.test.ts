import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import type { ExecutionContext } from "ava";
import { Download } from "../../support/download.js";
import { eventually } from "../../support/eventually.js";
import { burn, signal } from "../../support/fault.js";
import { labTest } from "../../support/fixture.js";
import { LAB, lives, pidOf } from "../../support/host.js";
import { labHeal } from "../../support/lab.js";
import { writeRandomFile } from "../content.js";

const MIB = 1024 * 1024;
const DOWNLOADS = 30;
/** For the load to be seen to spread away. */
const SPREAD_MS = 20_000;

const parent = mkdtempSync("/var/tmp/baton-overload-");
const content = `${parent}/content`;
const own = `${parent}/s2`;
for (const directory of [content, own]) makeFilm(directory);

const { test, lab } = labTest({ content, ownContent: { s2: own } }, () => {
  rmSync(parent, { recursive: true, force: true });
});

function makeFilm(directory: string): void {
  mkdirSync(directory);
  writeRandomFile(`${directory}/film.bin`, "film", 32 * MIB);
}

/** Downloads on all servers; at 750k they last some forty seconds. */
/** As many, and more until `least` of them are on `server`: whose a connection is the hash decides. */
async function startDownloads(count: number, rate: string, server: string, least: number): Promise<Download[]> {
  const downloads: Download[] = [];
  for (let more = count; more > 0; ) {
    const started = Array.from({ length: more }, () => new Download("/film.bin", { rate, seconds: 110 }));
    downloads.push(...started);
    await Promise.all(started.map((download) => download.reached(64 * 1024)));
    more = downloads.length < 3 * count ? least - (await countOn(server)) : 0;
  }
  return downloads;
}

async function assertAllRight(t: ExecutionContext, downloads: Download[]): Promise<void> {
  const wanted = await lab.digestOf("film.bin");
  const results = await Promise.all(downloads.map((download) => download.done));
  t.deepEqual(
    results.filter((one) => one.sha256 !== wanted || one.exit !== 0 || one.connects !== 1),
    [],
  );
}

async function countOn(server: string): Promise<number> {
  return (await lab.control.connections()).filter(({ owner }) => owner === server).length;
}

async function serverNamed(server: string) {
  const found = (await lab.control.servers()).find(({ id }) => id === server);
  if (!found) throw new Error(`there is no ${server}`);
  return found;
}

test("heavy traffic over all servers moves nothing", async (t) => {
  const known = (await lab.control.events()).length;
  const until = Date.now() + 8_000;
  const client = async () => {
    while (Date.now() < until) t.is((await new Download("/film.bin").done).exit, 0);
  };
  await Promise.all(Array.from({ length: 8 }, client));
  const events = (await lab.control.events()).slice(known);
  t.deepEqual(
    events.filter(({ kind }) => kind === "migration"),
    [],
  );
});

test("something else burns CPU on a server: its downloads leave it, once each, and stay away", async (t) => {
  const downloads = await startDownloads(DOWNLOADS, "750k", "s1", 3);
  const before = await countOn("s1");
  t.true(before >= 3, `${before} of ${DOWNLOADS} on s1`);
  const events = lab.control.follow();
  const burner = burn("s1");
  const began = Date.now();
  await eventually("most have left s1", async () => (await countOn("s1")) <= before / 3, SPREAD_MS, 100);
  t.log(`${before} connections on s1, a third after ${Date.now() - began} ms`);
  const { reason } = await serverNamed("s1");
  t.log(reason);
  t.regex(reason, /^overloaded: .+, for \d+ s; \d+ connections? moved away/);
  burner.close();
  await eventually("s1 is not overloaded", async () => !/overloaded/.test((await serverNamed("s1")).reason), 15_000);
  await assertAllRight(t, downloads);

  const moves = events.seen.filter(({ kind }) => kind === "migration");
  t.true(moves.length >= (before * 2) / 3);
  t.deepEqual(
    moves.filter(({ from, result, reason }) => from !== "s1" || result !== "ok" || !/^overload of s1: /.test(reason)),
    [],
  );
  t.is(new Set(moves.map(({ connection }) => connection)).size, moves.length, "nothing was moved twice");
  t.deepEqual(
    events.seen.filter(({ kind }) => kind === "takeover"),
    [],
  );
});

test("a server whose content is gone is drained, and is back with its content", async (t) => {
  const downloads = await startDownloads(12, "2M", "s2", 1);
  const there = await countOn("s2");
  t.true(there > 0, "some on s2");
  renameSync(own, `${own}-away`);
  const drained = await eventually("s2 is drained", async () => {
    const s2 = await serverNamed("s2");
    return s2.state === "DRAINING" && s2;
  });
  t.is(drained.reason, `its service http is not healthy: its directory ${own} does not exist`);
  await eventually("s2 is empty", async () => (await countOn("s2")) === 0);
  renameSync(`${own}-away`, own);
  await eventually("s2 is back", async () => (await serverNamed("s2")).state === "UP");
  await assertAllRight(t, downloads);
});

test("where no server's content is there, none is drained, and it is said why", async (t) => {
  const known = (await lab.control.events()).length;
  for (const directory of [content, own]) renameSync(directory, `${directory}-away`);
  await eventually("it is said", async () => {
    const servers = await lab.control.servers();
    return servers.every(({ reason }) => /not drained: no other server is healthy$/.test(reason));
  });
  t.true((await lab.control.servers()).every(({ state }) => state === "UP"));
  for (const directory of [content, own]) renameSync(`${directory}-away`, directory);
  await eventually("all is well", async () => (await lab.control.status()).problems.length === 0);
  t.true((await lab.control.events()).slice(known).every(({ reason }) => !/DOWN|HELD/.test(reason)));
});

test("dry-run: says what it would move, and moves nothing", async (t) => {
  appendFileSync(`${LAB}/config.yaml`, "\noverload: { mode: dry-run }\n");
  const controller = signal(pidOf("lb1", "controller"), "SIGTERM");
  await eventually("the controller has ended", () => !lives(controller));
  await labHeal();
  const events = lab.control.follow();
  const downloads = await startDownloads(12, "1200k", "s1", 1);
  const owners = new Map((await lab.control.connections()).map(({ id, owner }) => [id, owner]));
  burn("s1");
  const event = await events.next("would move", ({ reason }) => /^would move/.test(reason), SPREAD_MS);
  t.like(event, { kind: "server", from: "s1", result: "ok" });
  t.is(owners.get(event.connection), "s1");
  t.regex(event.reason, /^would move a connection: overload of s1: /);
  await eventually("said", async () => /would have been moved away/.test((await serverNamed("s1")).reason), 5_000);
  t.deepEqual(
    events.seen.filter(({ kind }) => kind === "migration"),
    [],
  );
  for (const { id, owner } of await lab.control.connections()) t.is(owners.get(id), owner);
  await assertAllRight(t, downloads);
});
