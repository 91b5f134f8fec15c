import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import type { ConnectionMessage } from "../../proto/rpc/index.js";
import { writeRandomFile } from "../lab/content.js";
import { BundleWatch, operationsIn, splitByEvents } from "../support/bundles.js";
import { Capture, sendersTo } from "../support/capture.js";
import { ClientProgram } from "../support/client_program.js";
import { Dialer } from "../support/dialer.js";
import { eventually } from "../support/eventually.js";
import { killAgent } from "../support/fault.js";
import { labTest } from "../support/fixture.js";
import { FtpBundle } from "../support/ftp_bundle.js";
import { LAB, macOf, VIP } from "../support/host.js";
import { labHeal } from "../support/lab.js";
import { sha256Of } from "../support/sha256.js";

const { test, lab } = labTest();
const MINUTES = 30;
const SERVERS = ["s1", "s2", "s3"];
const FILES = Number(process.env.FILES ?? 1_000);
const BYTES = Number(process.env.BYTES ?? 2_000_000_000);
const KILLS = Number(process.env.KILLS ?? 10);
const BUNDLES = Number(process.env.BUNDLES ?? 500);
/** At a time: bundles that are moved, or taken over. */
const ROUND = 50;
/** Between two bundles' next bytes. */
const TALK_MS = 4;

/** Kills one server after the other, each while it has something of the client's. @returns how many died */
async function killUnder(client: ClientProgram, times: number): Promise<number> {
  let killed = 0;
  while (killed < times && !client.isOver) {
    const busy = await eventually("the client is at work", async () => {
      const rows = (await lab.control.connections({ protocol: "ftp" })).filter(({ bundle, id }) => bundle !== id);
      return client.isOver ? "over" : rows[0]?.owner;
    });
    if (busy === "over") break;
    killAgent(busy);
    killed++;
    await labHeal();
  }
  return killed;
}

test(
  `lftp mirrors ${FILES} files with four connections through ${KILLS} deaths`,
  async (t) => {
    const tree = `${LAB}/content/tree`;
    mkdirSync(tree, { recursive: true });
    for (let at = 0; at < FILES; at++) {
      const folder = `${tree}/${at % 20}`;
      mkdirSync(folder, { recursive: true });
      writeRandomFile(`${folder}/${at}`, `file ${at}`, Math.floor(BYTES / FILES));
    }
    const client = new ClientProgram((folder) => [
      ...["lftp", "-c", `set net:limit-total-rate 12000000; open ${VIP}; mirror --parallel=4 /tree ${folder}/tree`],
    ]);
    const startedAt = performance.now();
    const killed = await killUnder(client, KILLS);
    const { exit, output } = await client.done;
    t.log(`${killed} deaths, ${Math.round((performance.now() - startedAt) / 1000)} s`);
    t.is(exit, 0, output);
    t.is(killed, KILLS);
    let wrong = 0;
    for (let at = 0; at < FILES; at++) {
      const name = `${at % 20}/${at}`;
      if ((await sha256Of(`${client.folder}/tree/${name}`)) !== (await sha256Of(`${tree}/${name}`))) wrong++;
    }
    t.is(wrong, 0);
    t.is(
      readdirSync(`${client.folder}/tree`, { recursive: true, withFileTypes: true }).filter((e) => e.isFile()).length,
      FILES,
    );
    rmSync(tree, { recursive: true });
  },
  MINUTES * 60_000,
);

test(
  "1 GB is stored through three deaths",
  async (t) => {
    const source = `${LAB}/content/gigabyte`;
    writeRandomFile(source, "gigabyte", 1_000_000_000);
    const client = new ClientProgram(() => [
      ...["curl", "-sS", "--limit-rate", "40M", "-T", source, `ftp://lab:lab@${VIP}/gigabyte`],
    ]);
    const killed = await killUnder(client, 3);
    const { exit, output } = await client.done;
    t.is(exit, 0, output);
    t.is(killed, 3);
    t.is(statSync(`${LAB}/ftp/gigabyte`).size, 1_000_000_000);
    t.is(await sha256Of(`${LAB}/ftp/gigabyte`), await sha256Of(source));
    for (const path of [source, `${LAB}/ftp/gigabyte`]) rmSync(path);
  },
  MINUTES * 60_000,
);

/**
 * Moves every bundle on, then kills the server that has most of them; something is said on every connection all the time.
 * @returns who sent of each bundle, and whose it was by the events; they are to be the same
 */
async function handOver(bundles: readonly FtpBundle[]) {
  const control = (await lab.control.connections()).filter(({ id, bundle }) => id === bundle);
  const idOf = new Map(bundles.map((one) => [one, control.find(isOf(one.session.port))?.id ?? ""]));
  const before = (await lab.control.events()).length;
  const capture = await Capture.start(`tcp and not ether src ${macOf("client")}`);
  await Promise.all(bundles.map((one) => one.answered()));
  const first = await ownersOf(bundles);
  for (const bundle of bundles) {
    const { id, owner } = await lab.control.connectionOf(bundle.session.port, isMovable);
    bundle.say();
    await lab.control.move(id, SERVERS[(SERVERS.indexOf(owner) + 1) % SERVERS.length] as string);
    await bundle.answered();
  }
  const owners = await ownersOf(bundles);
  const dead = SERVERS.reduce((a, b) => (countOf(owners, a) >= countOf(owners, b) ? a : b));
  for (const one of bundles) one.say();
  killAgent(dead);
  for (const one of bundles) one.say();
  await Promise.all(bundles.map((one) => one.answered()));
  const segments = await capture.stop();
  const events = (await lab.control.events()).slice(before);
  const operations = operationsIn(events);
  const chains = bundles.map((bundle) => {
    const known = operations.get(idOf.get(bundle) as string) ?? [];
    const owned = [first.get(bundle) as string, ...known.flatMap(({ to }) => to)];
    return { sent: sendersTo(bundle.ports, segments).join(" "), owned: owned.join(" ") };
  });
  return { chains, events, operations: [...operations.values()].flat(), frames: segments.length };
}

const isOf =
  (port: number) =>
  ({ client }: ConnectionMessage) =>
    client.endsWith(`:${port}`);
const isMovable = (one: ConnectionMessage) => one.protected && one.phase === "LIVE";
const countOf = (owners: Map<FtpBundle, string>, server: string) =>
  [...owners.values()].filter((owner) => owner === server).length;

async function ownersOf(bundles: readonly FtpBundle[]): Promise<Map<FtpBundle, string>> {
  const connections = await lab.control.connections();
  return new Map(bundles.map((one) => [one, connections.find(isOf(one.session.port))?.owner ?? ""]));
}

test(
  `${BUNDLES} bundles moved and ${BUNDLES} taken over: never one with two owners, by the events and on the wire`,
  async (t) => {
    const watch = new BundleWatch(lab.control);
    const dialer = await Dialer.start();
    const bundles: FtpBundle[] = [];
    for (let at = 0; at < ROUND; at++) {
      const ipv6 = at % 4 >= 2;
      if (at % 2 === 0) bundles.push(await FtpBundle.upload(dialer, `bundle-${at}`, ipv6));
      else bundles.push(await FtpBundle.download(dialer, "100m.bin", ipv6));
    }
    let turn = 0;
    const talking = setInterval(() => bundles[turn++ % ROUND]?.goOn(), TALK_MS);
    const counts = { migration: 0, takeover: 0, frames: 0 };
    try {
      while (counts.migration < BUNDLES || counts.takeover < BUNDLES) {
        const { chains, events, operations, frames } = await handOver(bundles);
        counts.frames += frames;
        for (const { kind } of operations) counts[kind as "migration" | "takeover"]++;
        for (const { sent, owned } of chains) t.is(sent, owned, "who sent, whose it was");
        t.deepEqual(
          events.filter(({ kind, result }) => (kind === "migration" || kind === "takeover") && result !== "ok"),
          [],
        );
        t.deepEqual(splitByEvents(events), []);
        await labHeal();
      }
    } finally {
      clearInterval(talking);
    }
    await watch.end();
    t.log(JSON.stringify(counts), `looked at ${watch.looks} times`);
    t.deepEqual(watch.split, []);
    for (const [at, bundle] of bundles.entries()) {
      if (at % 2 === 1) t.true(bundle.read > 0);
      else t.true((await bundle.finish()).equals(readFileSync(`${LAB}/ftp/bundle-${at}`)), `bundle-${at}`);
    }
    dialer.close();
  },
  MINUTES * 60_000,
);
