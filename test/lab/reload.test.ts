import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { parse, stringify } from "yaml";
import { Capture, factsOf } from "../support/capture.js";
import { Download } from "../support/download.js";
import { eventually } from "../support/eventually.js";
import { killAgent, signal } from "../support/fault.js";
import { assertOneConnection, labTest } from "../support/fixture.js";
import { LAB, lives, pidOf, runOn, VIP } from "../support/host.js";
import { labConfigFile, logOf } from "../support/lab.js";

const { test, lab } = labTest();
const SERVERS = ["s1", "s2", "s3"];
const FILE = "100m.bin";
const PORT = 81;

const isUp = async (server: string) =>
  (await lab.control.servers()).some(({ id, state }) => id === server && state === "UP");

test("a file that is not right changes nothing, and one that is changes services under live connections", async (t) => {
  const written = readFileSync(labConfigFile(), "utf8");
  const capture = await Capture.start();
  const downloads = Array.from({ length: 12 }, () => new Download(`/${FILE}`, { rate: "6M", seconds: 110 }));
  await Promise.all(downloads.map((download) => download.reached(64 * 1024)));
  const supervisors = () => SERVERS.map((server) => pidOf(server, "supervisor"));
  const [before, controller] = [supervisors(), pidOf("lb1", "controller")];
  const hangUp = () => {
    for (const pid of [...supervisors(), pidOf("lb1", "controller")]) signal(pid, "SIGHUP");
  };

  for (const [text, sentence] of [
    [written.replace("port: 80\n", "port: eighty\n"), /\d+:\d+: .*services\[0\]\.port must be/],
    [
      written.replace("10.77.0.102", "10.77.0.112"),
      /servers\[1\]\.\w+ has changed, which takes effect with a restart only/,
    ],
    [written.replace("port: 7\n", "port: 8\n"), /the service app \(app, port 7\) is gone or another one/],
  ] as const) {
    t.not(text, written);
    const logs = [...SERVERS.map((server) => logOf(server, "agent")), logOf("lb1", "controller")];
    writeFileSync(labConfigFile(), text);
    hangUp();
    await eventually("each has said why it goes on as before", () =>
      logs.every((log) => /is not taken over/.test(log()) && sentence.test(log())),
    );
  }
  t.deepEqual([supervisors(), pidOf("lb1", "controller")], [before, controller]);
  const worker = killAgent("s1"); // while the file is not right
  await eventually(
    "s1 is back under what went before",
    async () => pidOf("s1", "agent") !== worker && isUp("s1"),
    30_000,
  );

  const other = `${LAB}/other`;
  mkdirSync(other, { recursive: true });
  writeFileSync(`${other}/which.txt`, "the other service\n");
  const next = parse(written);
  next.services.push({ name: "other", port: PORT, protocol: "http", directory: other });
  next.overload = { mode: "dry-run" };
  writeFileSync(labConfigFile(), stringify(next));
  hangUp();
  await eventually(
    "the agents are others",
    () => supervisors().every((pid, i) => pid !== before[i] && !lives(before[i]!)),
    60_000,
  );
  t.is(pidOf("lb1", "controller"), controller);
  const ask = () => runOn("client", "curl", "-sf", "-m", "5", `http://${VIP}:${PORT}/which.txt`);
  t.is(await eventually("the new service answers", ask), "the other service\n");
  t.deepEqual(
    (await lab.control.status()).services.map(({ port }) => port),
    next.services.map(({ port }: { port: number }) => port),
  );

  const wanted = await lab.digestOf(FILE);
  for (const { exit, sha256, connects } of await Promise.all(downloads.map((download) => download.finish())))
    t.deepEqual({ exit, sha256, connects }, { exit: 0, sha256: wanted, connects: 1 });
  const segments = await capture.stop();
  for (const { port } of downloads) assertOneConnection(t, factsOf(segments, port));
});

test("the last of several hangups counts", async (t) => {
  const written = readFileSync(labConfigFile(), "utf8");
  const first = pidOf("s2", "supervisor");
  const services = [
    { name: "first", port: 82, protocol: "app" },
    { name: "second", port: 83, protocol: "app" },
  ];
  const log = logOf("s2", "agent");
  for (const count of [1, 2]) {
    const next = parse(written);
    next.services.push(...services.slice(0, count));
    writeFileSync(labConfigFile(), stringify(next));
    signal(first, "SIGHUP");
    await eventually("a successor is on its way", () => /an agent with the new configuration is started/.test(log()));
  }
  const listens = async (port: number) => (await runOn("s2", "ss", "-Hltn", `sport = :${port}`)).length > 0;
  await eventually("both are served", async () => (await listens(82)) && (await listens(83)), 60_000);
  t.not(pidOf("s2", "supervisor"), first);
});
