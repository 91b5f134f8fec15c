import { Capture, factsOf } from "../support/capture.js";
import { Dialer } from "../support/dialer.js";
import { Download } from "../support/download.js";
import { eventually } from "../support/eventually.js";
import { killAgent } from "../support/fault.js";
import { assertOneConnection, labTest } from "../support/fixture.js";
import { get, ResponseReader } from "../support/http.js";

const { test, lab } = labTest();
const SERVERS = ["s1", "s2", "s3"];
const DOWNLOADS = 24;
const BACK_MS = 15_000;

const allUp = async () => (await lab.control.servers()).every(({ state }) => state === "UP");

test("every server is killed at once: their successors go on with every download", async (t) => {
  const capture = await Capture.start();
  const downloads = Array.from({ length: DOWNLOADS }, () => new Download("/100m.bin", { rate: "5M", seconds: 100 }));
  await Promise.all(downloads.map((download) => download.reached(1024 * 1024)));
  const dialer = await Dialer.start();
  const { socket, localPort } = await dialer.connect();
  await lab.control.connectionOf(localPort, (one) => one.protected);
  const owned = await lab.control.connections();
  for (const server of SERVERS)
    t.true(
      owned.some(({ owner }) => owner === server),
      `${server} has connections`,
    );

  const events = lab.control.follow();
  const died = Date.now();
  for (const server of SERVERS) killAgent(server);
  const taken = () => events.seen.filter(({ kind }) => kind === "takeover");
  await eventually("everything is taken over", () => taken().length >= owned.length, BACK_MS);
  t.log(`${owned.length} connections taken over after ${Date.now() - died} ms`);
  await eventually("every server is UP", allUp, BACK_MS);
  t.log(`every server is UP after ${Date.now() - died} ms`);
  events.close();

  socket.write(get("/1k.bin"));
  t.is((await new ResponseReader(socket).next()).sha256, await lab.digestOf("1k.bin"), "an idle one as well");
  const wanted = await lab.digestOf("100m.bin");
  const results = await Promise.all(downloads.map((download) => download.finish()));
  t.log(`longest gap ${Math.max(...results.map(({ longestGapMs }) => longestGapMs)).toFixed(0)} ms`);
  t.deepEqual(
    results.filter((one) => one.sha256 !== wanted || one.exit !== 0 || one.connects !== 1),
    [],
  );
  const segments = await capture.stop();
  for (const download of downloads) assertOneConnection(t, factsOf(segments, download.port));
  const ends = taken().map(({ connection, result }) => `${connection} ${result}`);
  t.deepEqual(ends.toSorted(), owned.map(({ id }) => `${id} ok`).toSorted(), "one event a connection");
});

test("the last server that takes connections dies, and the others drain: those go on with its downloads", async (t) => {
  for (const server of ["s2", "s3"]) await lab.control.drain(server, 10_000);
  const download = new Download("/100m.bin", { rate: "20M" });
  await download.reached(10 * 1024 * 1024);
  const before = await lab.control.connectionOf(download.port, (one) => one.protected);
  t.is(before.owner, "s1");
  killAgent("s1");
  const after = await lab.control.connectionOf(
    download.port,
    (one) => one.epoch > before.epoch && one.phase === "LIVE",
  );
  t.true(["s2", "s3"].includes(after.owner), after.owner);
  t.is((await download.finish()).sha256, await lab.digestOf("100m.bin"));
  await eventually("s1 is back", async () => (await lab.control.servers())[0]?.state === "UP", BACK_MS);
});
