import "../support/quiet.js";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import test from "ava";
import { apiTargets } from "../../controller/cli/client.js";
import {
  formatConnection,
  formatConnections,
  formatEvent,
  formatServers,
  formatStatus,
} from "../../controller/cli/format.js";
import { age, bytes, duration, table } from "../../controller/cli/table.js";
import { root } from "../../proto/paths.js";
import { connection, detail, FakeApi, server, status } from "../support/api.js";
import { testDirectory } from "../support/directory.js";

const main = join(root, "dist/controller/cli/main.js");

interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

function baton(args: string[], env: Record<string, string> = {}): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { env: { ...process.env, ...env } }, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr });
    });
  });
}

test("tables align and show what is empty", (t) => {
  t.is(
    table(
      ["A", "LONGER", "C"],
      [
        ["1", "", "x"],
        ["222", "3", ""],
      ],
    ),
    "A    LONGER  C\n1    -       x\n222  3       -",
  );
});

test("numbers for people", (t) => {
  t.deepEqual([bytes(0), bytes(1023), bytes(1536), bytes(5 * 2 ** 30)], ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
  t.deepEqual([age(0.42), age(59.9), age(61), age(7260)], ["0.4s", "59s", "1m01s", "2h01m"]);
  t.deepEqual([duration(740), duration(12_345), duration(1_250_000)], ["740us", "12.3ms", "1.25s"]);
});

test("the tables say what an operator asks for", (t) => {
  t.regex(formatServers([server]), /^s1 +UP +2 +0\.25 +1\.5% +2\.3ms +2\.0 KiB\/s +12ms +-$/m);
  t.regex(formatConnections([connection]), /LIVE +1m15s +4\.7 GiB +\/big\.bin +no: digest pending$/m);
  const bundle = { ...connection, id: "c", bundle: "c", protocol: "ftp" };
  const data = { ...bundle, id: "d", client: "10.77.0.10:5000", vip: "10.77.0.100:30000" };
  t.regex(formatConnections([bundle, data]), /^c {11}10\.77\.0\.10:51234 {3}.*\nd {11}└ 10\.77\.0\.10:5000 .*$/m);
  t.regex(
    formatConnection({ ...detail, connection: bundle, related: [data] }),
    /^bundle +c\n\nCONNECTION .*\nd {11}└ .*\n\nLAYER/m,
  );
  t.regex(formatStatus(status), /^! s2 is DOWN: its lease ran out\.$/m);
  t.regex(formatStatus({ ...status, problems: [] }), /^Nothing is wrong\.$/m);
  const event = {
    time: "T",
    kind: "takeover",
    connection: "c",
    bundle: "",
    from: "s1",
    to: "s2",
    result: "ok",
    reason: "",
  };
  t.is(
    formatEvent({ ...event, phases: { LIVE: 12_000, UNREADY: 800 }, heldPackets: 3, heldUs: 11_000 }),
    "T  takeover    ok            c  s1 -> s2  UNREADY 800us, LIVE 12.0ms  held 3 packets for 11.0ms",
  );
});

test("BATON_API is a socket or an address; unset, the lab's", (t) => {
  t.deepEqual(apiTargets("unix:/x/y"), ["unix:/x/y"]);
  t.deepEqual(apiTargets("10.0.0.1:7600"), ["10.0.0.1:7600"]);
  t.deepEqual(apiTargets("[fd00::1]:7600"), ["[fd00::1]:7600"]);
  t.throws(() => apiTargets("here"), { message: 'BATON_API must be unix:PATH or HOST:PORT, not "here".' });
  t.throws(() => apiTargets(undefined, testDirectory(t)), { message: /^No controller found/ });
});

test("--json has the documented fields", async (t) => {
  const api = await new FakeApi(t).start();
  api.events.append({
    kind: "takeover",
    connection: connection.id,
    from: "s1",
    to: "s2",
    result: "ok",
    phases: { HELD: 5 },
  });
  api.events.append({ kind: "server", from: "s1", reason: "fenced" });
  const env = { BATON_API: api.target };
  const json = async (...args: string[]) => JSON.parse((await baton([...args, "--json"], env)).stdout);

  const { servers } = await json("servers");
  t.deepEqual(servers, [server]);
  t.like(servers[0], { id: "s1", state: "UP", connections: 2, leaseAgeMs: 12.4, reason: "" });
  t.deepEqual(Object.keys(servers[0].load), ["cpu", "pressure", "loopDelayMs", "egressBytesPerSecond"]);

  const { connections } = await json("connections");
  t.is(connections.length, 2);
  const fields =
    "id client vip transport protocol owner epoch phase ageSeconds bytesSent bytesReceived bundle object offset";
  t.deepEqual(Object.keys(connections[0]), [...fields.split(" "), "protected", "reason"]);
  t.deepEqual(connections[0], connection);
  t.is((await json("connections", "--server", "s2")).connections[0].client, "[fd77::10]:5");

  const one = await json("connection", connection.id);
  t.like(one, connection);
  t.deepEqual(one.initialSeq, { client: 2886723411, server: 4294967290 });
  t.deepEqual(one.currentSeq, { client: 2886723492, server: 195 });
  t.is(one.firstByteSeq, 300);
  t.is(one.serverId, "s1");
  t.is(one.takenAt, "2026-11-22T10:20:30.123456Z");
  t.deepEqual(one.layers, [{ layer: "tcp", version: 1, state: { mss: 1448 } }]);
  t.is(one.history[0].what, "unready");

  t.deepEqual(await json("status"), status);

  const lines = (await baton(["events", "--json"], env)).stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  t.is(lines.length, 2);
  t.deepEqual(Object.keys(lines[0]), [
    ...["time", "kind", "connection", "bundle", "from", "to", "result", "reason", "phases", "heldPackets", "heldUs"],
  ]);
  t.deepEqual(lines[0].phases, { HELD: 5 });
});

test("human output of every read command", async (t) => {
  const api = await new FakeApi(t).start();
  api.events.append({ kind: "server", from: "s1", reason: "fenced" });
  const env = { BATON_API: api.listen };
  for (const [args, expected] of [
    [["status"], /leader +lb1/],
    [["servers"], /^SERVER/],
    [["connections"], /^CONNECTION/],
    [["connection", connection.id], /initial seq +client 2886723411, server 4294967290/],
    [["events"], /server .*s1 -> - .*\(fenced\)/],
  ] as [string[], RegExp][]) {
    const ran = await baton(args, env);
    t.is(ran.code, 0, ran.stderr);
    t.regex(ran.stdout, expected);
  }
});

test("events --follow goes on, and ends quietly when its reader goes away", async (t) => {
  const api = await new FakeApi(t).start();
  api.events.append({ kind: "server", reason: "before" });
  const child = spawn(process.execPath, [main, "events", "--follow", "--json"], {
    env: { ...process.env, BATON_API: api.target },
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.teardown(() => child.kill("SIGKILL"));
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  t.is(JSON.parse((await lines.next()).value).reason, "before");
  api.events.append({ kind: "server", reason: "after" });
  t.is(JSON.parse((await lines.next()).value).reason, "after");
  child.stdout.destroy();
  const exit = once(child, "exit");
  for (let i = 0; i < 3; i++) {
    api.events.append({ kind: "server", reason: "nobody reads" });
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  t.is((await exit)[0], 0);
});

test("drain ends with a sentence where the controller has stopped", async (t) => {
  const socket = join(testDirectory(t), "api.sock");
  const stopped = createServer(() => {}).listen(socket); // takes the connection and says nothing
  t.teardown(() => stopped.close());
  await once(stopped, "listening");
  const ran = await baton(["drain", "s1", "--timeout", "500ms"], { BATON_API: `unix:${socket}` });
  t.is(ran.code, 1);
  t.regex(
    ran.stderr,
    /^baton: (The controller at .* did not answer within 10\.5 seconds|No controller answers at .*)\.\n$/,
  );
});

const valid = `
vips: [10.77.0.100]
controllers: [{ id: lb1, listen: "127.0.0.1:7600" }]
servers: [{ id: s1, address: 10.77.0.101 }]
services: [{ name: http, port: 80, protocol: http, directory: nowhere }]
`;

test("every failure is one sentence and a status, never a stack", async (t) => {
  const directory = testDirectory(t);
  const [good, bad] = [join(directory, "good.yaml"), join(directory, "bad.yaml")];
  writeFileSync(good, valid);
  writeFileSync(bad, valid.replace("lb1", "'-'").replace("vips", "vip"));
  const api = await new FakeApi(t).start();
  const cases: [string[], Record<string, string>, RegExp][] = [
    [["status"], { BATON_API: `unix:${directory}/no.sock` }, /^baton: No controller answers at unix:.*no\.sock\.\n$/],
    [["status"], { BATON_API: "127.0.0.1:1" }, /^baton: No controller answers at 127\.0\.0\.1:1\.\n$/],
    [["status"], { BATON_API: "nonsense" }, /^baton: BATON_API must be .*\n$/],
    [["connection", "nobody"], { BATON_API: api.target }, /^baton: There is no connection "nobody"\.\n$/],
    [["connection"], {}, /^baton: missing required argument 'id'\n$/],
    [["events", "--limit", "x"], {}, /^baton: .*positive whole number/],
    [
      ["check", join(directory, "none.yaml")],
      {},
      /^baton: Cannot read the configuration .*: there is no such file\.\n$/,
    ],
    [
      ["check", bad],
      {},
      /^.*bad\.yaml:2:1: vips is missing\.\n.*bad\.yaml:2:1: Unknown key "vip"; did you mean "vips"\?\n.*bad\.yaml:3:21: controllers\[0\]\.id must .*\n$/,
    ],
    [
      ["controller", "--config", good, "--id", "lb9"],
      {},
      /^baton: .* has no controller "lb9"; did you mean "lb1"\?\n$/,
    ],
    [
      ["agent", "--config", good, "--id", "s1"],
      {},
      /^baton: The directory .*nowhere of service http does not exist\.\n$/,
    ],
    [["move", "x"], {}, /required option '--to <server>'/],
    [["drain", "s1", "--timeout", "soon"], {}, /It must look like 500ms, 60s or 5m\./],
    [["nonsense"], {}, /^baton: unknown command 'nonsense'\n$/],
  ];
  for (const [args, env, expected] of cases) {
    const ran = await baton(args, env);
    t.is(ran.code, 1, `${args.join(" ")}: ${ran.stderr}`);
    t.is(ran.stdout, "");
    t.regex(ran.stderr, expected);
    t.notRegex(ran.stderr, /\n\s+at /);
  }
});

test("a daemon says that it needs root", async (t) => {
  const file = join(testDirectory(t), "good.yaml");
  writeFileSync(file, valid);
  if (process.getuid?.() !== 0) {
    const ran = await baton(["controller", "--config", file, "--id", "lb1"]);
    t.is(ran.code, 1);
    t.regex(ran.stderr, /must be started by root\.\n$/);
    return;
  }
  const nobody = 65534;
  // Imported as root: the checkout may lie where nobody else can read.
  const code = `import(process.argv[1]).then((m) => {
    process.setuid(${nobody});
    return m.runController(process.argv[2], "lb1");
  }).catch((e) => console.error(e.message))`;
  const child = spawn(process.execPath, ["-e", code, main.replace("main.js", "daemon.js"), file]);
  let said = "";
  child.stderr.on("data", (chunk) => {
    said += chunk;
  });
  await once(child, "close");
  t.regex(said, /must be started by root\.|there is no such file|EACCES/);
});

test("check and schema", async (t) => {
  const file = join(testDirectory(t), "good.yaml");
  writeFileSync(file, valid);
  t.regex((await baton(["check", file])).stdout, /: right \(1 controller, 1 server, 1 service, 1 VIP\)\n$/);
  const checked = JSON.parse((await baton(["check", file, "--json"])).stdout);
  t.is(checked.lease.durationMs, 100);
  t.deepEqual(checked.services[0].limits, { bodyMegabytes: 256, responseKilobytes: 64 });
  t.truthy(JSON.parse((await baton(["schema"])).stdout).properties.vips);
});

test("an API address that is taken is said, and a socket left by a killed controller is not in the way", async (t) => {
  const one = await new FakeApi(t).start();
  const two = new FakeApi(t);
  Object.assign(two, { socket: one.socket });
  await t.throwsAsync(two.start(), { code: "PORT_TAKEN", message: /^Another controller listens on / });
  t.is((await baton(["status"], { BATON_API: one.target })).code, 0); // the first one is unharmed
});
