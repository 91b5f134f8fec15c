import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../proto/paths.js";
import type { EventMessage } from "../../proto/rpc/index.js";
import { makeContent } from "../lab/content.js";
import { Capture, factsOf } from "../support/capture.js";
import { Control } from "../support/control.js";
import { Download } from "../support/download.js";
import { cutLink, killAgent, limitClientCable } from "../support/fault.js";
import { hostOf, VIP } from "../support/host.js";
import { API, labDown, labUp } from "../support/lab.js";
import { sha256Of } from "../support/sha256.js";

const MIB = 1024 * 1024;
const FILE = "film.bin";
const SIZE = 512 * MIB;
const CABLE_MBIT = 500;
const TAKEOVER_MS = 15_000;

const started = performance.now();
const say = (text: string) =>
  console.log(`${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s  ${text}`);
const percent = (bytes: number) => `${Math.round((100 * bytes) / SIZE)} %`;

function directoryForContent(): string {
  const { bavail, bsize } = statfsSync("/var/tmp");
  if (bavail * bsize < 2 * SIZE) throw new Error(`/var/tmp needs ${(2 * SIZE) / MIB} MiB of free space for the file`);
  return mkdtempSync("/var/tmp/baton-demo-");
}

/** Lets the owner of a download fail, and waits until another server has taken the connection over. */
async function lose(
  control: Control,
  download: Download,
  how: (owner: string) => Promise<string>,
): Promise<EventMessage> {
  const connection = await control.connectionOf(download.port, (one) => one.phase === "LIVE" && one.protected);
  const events = control.follow();
  try {
    const at = percent(download.bytes);
    say(`${at} there; connection ${connection.id} belongs to ${connection.owner}`);
    say(await how(connection.owner));
    const event = await events.next(
      `a takeover of ${connection.id}`,
      (one) => one.kind === "takeover" && one.connection === connection.id && one.from === connection.owner,
      TAKEOVER_MS,
    );
    if (event.result !== "ok") throw new Error(`the takeover ended ${event.result}: ${event.reason}`);
    say(`${event.to} goes on with the connection of ${event.from}`);
    return event;
  } finally {
    events.close();
  }
}

/** What `baton events --json` keeps about this connection, drawn as a timeline. */
function showTimelines(connection: string): void {
  const baton = join(root, "node_modules/.bin/baton");
  const lines = execFileSync(baton, ["events", "--json"], {
    env: { ...process.env, BATON_API: API },
    encoding: "utf8",
  });
  const events = lines
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as EventMessage);
  for (const event of events.filter((one) => one.kind === "takeover" && one.connection === connection)) {
    console.log(`\n  takeover ${event.from} -> ${event.to} at ${event.time}: ${event.result} ${event.reason}`);
    for (const [phase, us] of Object.entries(event.phases).sort(([, a], [, b]) => a - b)) {
      console.log(`    ${String(us).padStart(9)} us  ${phase}`);
    }
    console.log(`    held meanwhile: ${event.heldPackets} packets, ${event.heldUs} us`);
  }
}

async function demo(content: string): Promise<boolean> {
  say(`making ${FILE}, ${SIZE / MIB} MiB, and a lab: one client, one appliance, three servers`);
  makeContent(content, { [FILE]: SIZE });
  const [wanted] = await Promise.all([sha256Of(join(content, FILE)), labUp({ servers: 3, content })]);
  say("every server is UP");

  const control = new Control(API);
  const capture = await Capture.start();
  await limitClientCable(CABLE_MBIT);
  say(`client: curl http://${VIP}/${FILE}   (its cable carries ${CABLE_MBIT} Mbit/s)`);
  const download = new Download(`/${FILE}`);

  await download.reached(SIZE * 0.2);
  const first = await lose(control, download, async (owner) => `kill -9 of ${owner}'s agent, pid ${killAgent(owner)}`);
  await download.reached(SIZE * 0.55);
  const second = await lose(control, download, async (owner) => {
    await cutLink(owner);
    return `${owner}'s cable is pulled: ip -n baton-sw link set ${owner} down`;
  });

  const result = await download.done;
  const facts = factsOf(await capture.stop(), download.port);
  say(`curl ended with ${result.exit} after ${result.bytes} bytes ${result.error}`);
  control.close();
  showTimelines(first.connection);

  const bodyFrom = [...new Set([first.from, first.to, second.to])];
  const checks: Array<[string, string | number, string | number]> = [
    ["curl's exit status", result.exit, 0],
    ["connections that curl opened", result.connects, 1],
    ["TCP connections on the wire", facts.clientIsns.length, 1],
    ["resets the client saw", facts.resets.length, 0],
    // The first one is back by the time of the second loss, and may then be the heir.
    ["servers that sent the body, in turn", facts.senders.map(hostOf).join(" "), bodyFrom.join(" ")],
    ["bytes", result.bytes, SIZE],
    ["SHA-256", result.sha256, wanted],
  ];
  console.log();
  for (const [what, found, expected] of checks) {
    const verdict = found === expected ? "ok" : `WRONG, expected ${expected}`;
    console.log(`  ${what.padEnd(30)} ${found}  ${verdict}`);
  }
  console.log(`  ${"longest pause at the client".padEnd(30)} ${Math.round(facts.longestGapUs / 1000)} ms`);
  return checks.every(([, found, expected]) => found === expected);
}

const content = directoryForContent();
let held = false;
const leave = () => {
  rmSync(content, { recursive: true, force: true });
  return labDown();
};
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.once(signal, () => leave().finally(() => process.exit(130)));
try {
  held = await demo(content);
} catch (error) {
  console.error(`demo: ${error instanceof Error ? error.message : error}`);
} finally {
  await leave();
}
console.log(held ? "\nThe download outlived two of its servers." : "\nThe demo did not hold.");
process.exit(held ? 0 : 1);
