import type { ExecutionContext } from "ava";
import { ClientProgram } from "../support/client_program.js";
import { eventually } from "../support/eventually.js";
import { killAgent } from "../support/fault.js";
import { labTest } from "../support/fixture.js";
import { VIP } from "../support/host.js";
import { sha256Of } from "../support/sha256.js";

const { test, lab } = labTest();
const PORT = 8080;
const BASE = `http://${VIP}:${PORT}`;

/** Kills the server that has most of the client's connections, once there are `connections` with something done. */
async function killUnder(t: ExecutionContext, client: ClientProgram, connections: number): Promise<void> {
  const owner = await eventually("the client is at work", async () => {
    const owners = (await lab.control.connections())
      .filter(({ vip, bytesSent, protected: ok }) => vip.endsWith(`:${PORT}`) && bytesSent > 10_000 && ok)
      .map((one) => one.owner);
    const most = owners.toSorted((a, b) => countOf(owners, b) - countOf(owners, a))[0];
    return owners.length >= connections && most;
  });
  killAgent(owner);
  const { moved } = await eventually("its connections are elsewhere", async () => {
    const taken = (await lab.control.servers()).find(({ id, state }) => id === owner && state !== "UP");
    return (taken || client.isOver) && { moved: !client.isOver };
  });
  t.true(moved, "in the middle of it");
}

const countOf = (owners: string[], owner: string) => owners.filter((one) => one === owner).length;

test("wget, without another try", async (t) => {
  const client = new ClientProgram((folder) => [
    ...["wget", "-q", "--tries=1", "--limit-rate=25m", "-O", `${folder}/got`, `${BASE}/100m.bin`],
  ]);
  await killUnder(t, client, 1);
  t.deepEqual(await client.done, { exit: 0, output: "" });
  t.is(await sha256Of(`${client.folder}/got`), await lab.digestOf("100m.bin"));
});

test("aria2c with four connections, without another try", async (t) => {
  const client = new ClientProgram((folder) => [
    ...["aria2c", "-q", "--no-conf", "-x4", "-s4", "-k1M", "--max-tries=1", "--max-overall-download-limit=25M"],
    ...["--file-allocation=none", "-d", folder, "-o", "got", `${BASE}/100m.bin`],
  ]);
  await killUnder(t, client, 4);
  const { exit, output } = await client.done;
  t.is(exit, 0, output);
  t.is(await sha256Of(`${client.folder}/got`), await lab.digestOf("100m.bin"));
});

test("h2load over HTTP/1.1, 32 connections: every request succeeds", async (t) => {
  const client = new ClientProgram(() => ["h2load", "--h1", "-c32", "-n20000", `${BASE}/1k.bin`]);
  await killUnder(t, client, 16);
  const { exit, output } = await client.done;
  t.is(exit, 0);
  t.regex(output, /20000 succeeded, 0 failed, 0 errored, 0 timeout/);
  t.regex(output, /status codes: 20000 2xx, 0 3xx, 0 4xx, 0 5xx/);
  t.log(/finished in.*/.exec(output)?.[0]);
});

test("ab over kept connections: every request succeeds", async (t) => {
  const client = new ClientProgram(() => ["ab", "-q", "-k", "-c32", "-n20000", `${BASE}/1k.bin`]);
  await killUnder(t, client, 16);
  const { exit, output } = await client.done;
  t.is(exit, 0, output);
  t.regex(output, /Complete requests: +20000\nFailed requests: +0\n/);
  t.regex(output, /Keep-Alive requests: +20000\n/);
  t.notRegex(output, /Non-2xx/);
  t.log(/Requests per second.*/.exec(output)?.[0]);
});

test("wrk, 32 connections for some seconds: every request succeeds", async (t) => {
  const client = new ClientProgram(() => ["wrk", "-t2", "-c32", "-d6s", "--timeout", "5s", `${BASE}/1k.bin`]);
  await killUnder(t, client, 16);
  const { exit, output } = await client.done;
  t.is(exit, 0, output);
  t.regex(output, /[1-9]\d* requests in/);
  // It says so only where there are any.
  t.notRegex(output, /Socket errors|Non-2xx/);
  t.log(/\d+ requests in.*/.exec(output)?.[0]);
});
