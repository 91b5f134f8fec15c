import { Download } from "../support/download.js";
import { eventually } from "../support/eventually.js";
import { killAgent, signal } from "../support/fault.js";
import { labTest } from "../support/fixture.js";
import { lives, pidOf } from "../support/host.js";
import { labHeal, startHost } from "../support/lab.js";

const { test, lab } = labTest();
const BACK_MS = 15_000;

async function stateOf(server: string): Promise<string> {
  return (await lab.control.servers()).find(({ id }) => id === server)?.state ?? "";
}

/** Ends the process and starts the host's daemon again, without mending anything else. */
async function restart(host: string, name: "controller" | "supervisor"): Promise<void> {
  const pid = signal(pidOf(host, name), name === "controller" ? "SIGKILL" : "SIGTERM");
  await eventually(`${name} of ${host} has ended`, () => !lives(pid));
  await startHost(host);
}

test("an operator's drain outlives the controller and the server, until it is undone", async (t) => {
  await lab.control.drain("s2", 5_000);
  await restart("lb1", "controller");
  await eventually("s2 is DRAINING again", async () => (await stateOf("s2")) === "DRAINING", BACK_MS);
  await eventually("the others are UP", async () => (await stateOf("s1")) === "UP" && (await stateOf("s3")) === "UP");

  killAgent("s2");
  const joined = async () => {
    const s2 = (await lab.control.servers()).find(({ id }) => id === "s2");
    return s2?.state === "DRAINING" && s2.incarnation > 1;
  };
  await eventually("s2 has joined, DRAINING", joined, BACK_MS);
  const downloads = Array.from({ length: 12 }, () => new Download("/1m.bin"));
  const results = await Promise.all(downloads.map((download) => download.done));
  t.true(results.every(({ exit }) => exit === 0));
  t.is((await lab.control.connections({ server: "s2" })).length, 0, "it gets nothing new");

  await lab.control.undrain("s2");
  t.is(await stateOf("s2"), "UP");
  await restart("lb1", "controller");
  await eventually("s2 is UP", async () => (await stateOf("s2")) === "UP", BACK_MS);
});

test("a drain that an agent's stop makes is not remembered", async (t) => {
  await restart("s3", "supervisor");
  await eventually("s3 is UP again", async () => (await stateOf("s3")) === "UP", BACK_MS);
  t.is(await stateOf("s3"), "UP");
});

test("mending the lab undoes drains", async (t) => {
  await lab.control.drain("s1", 5_000);
  t.is(await stateOf("s1"), "DRAINING");
  await labHeal();
  t.is(await stateOf("s1"), "UP");
});
