import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { writeRandomFile } from "../lab/content.js";
import { BundleWatch, splitByEvents } from "../support/bundles.js";
import { ClientProgram } from "../support/client_program.js";
import { Dialer } from "../support/dialer.js";
import { eventually } from "../support/eventually.js";
import { killAgent } from "../support/fault.js";
import { labTest } from "../support/fixture.js";
import { FtpSession } from "../support/ftp_session.js";
import { LAB, VIP } from "../support/host.js";
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

test(
  `${BUNDLES} bundles moved and ${BUNDLES} taken over: never one with two owners`,
  async (t) => {
    const watch = new BundleWatch(lab.control);
    const dialer = await Dialer.start();
    const sessions: FtpSession[] = [];
    for (let at = 0; at < ROUND; at++) {
      const session = await FtpSession.open(dialer, { user: "lab", password: "lab", ipv6: at % 2 === 1 });
      await session.open();
      await session.command(`STOR bundle-${at}`, 150);
      sessions.push(session);
    }
    let [moved, taken] = [0, 0];
    while (moved < BUNDLES || taken < BUNDLES) {
      const before = (await lab.control.events()).at(-1)?.time ?? "";
      for (const { port } of sessions) {
        const { id, owner } = await lab.control.connectionOf(port, (one) => one.protected && one.phase === "LIVE");
        const target = SERVERS[(SERVERS.indexOf(owner) + 1) % SERVERS.length] as string;
        if ((await lab.control.move(id, target)).result === "ok") moved++;
      }
      const owners = await Promise.all(sessions.map(async ({ port }) => (await lab.control.connectionOf(port)).owner));
      const dead = owners[0] as string;
      killAgent(dead);
      for (const [at, { port }] of sessions.entries()) {
        if (owners[at] !== dead) continue;
        await lab.control.connectionOf(port, ({ owner, phase }) => owner !== dead && phase === "LIVE", 20_000);
        taken++;
      }
      await labHeal();
      const since = (await lab.control.events()).filter(({ time }) => time > before);
      t.deepEqual(
        since.filter(({ kind, result }) => (kind === "migration" || kind === "takeover") && result !== "ok"),
        [],
      );
      t.deepEqual(splitByEvents(since.filter(({ kind }) => kind === "takeover")), []);
    }
    await watch.end();
    t.log(`${moved} moved, ${taken} taken over, looked at ${watch.looks} times`);
    t.deepEqual(watch.split, []);
    dialer.close();
  },
  MINUTES * 60_000,
);
