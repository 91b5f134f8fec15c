import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import {
  ConfigError,
  controllerOf,
  directoryOf,
  jsonSchema,
  loadConfig,
  natsUrls,
  parseConfig,
  recordBytesMax,
  requireContent,
  serverOf,
} from "../../proto/config/index.js";
import { BatonError } from "../../proto/errors.js";
import { testDirectory } from "../support/directory.js";

const right = `
cluster: lab
vips: [10.77.0.100, "FD77::0100"]
controllers:
  - { id: lb1, listen: "10.77.0.1:7600", metrics: "10.77.0.1:9600" }
servers:
  - { id: s1, address: 10.77.0.101 }
  - { id: s2, address: "fd77::102", state: /var/lib/baton }
services:
  - { name: http, port: 80, protocol: http, directory: content, directories: { s2: /other } }
`;

/** What the parser says, as LINE:COLUMN: sentence. */
function complaints(text: string): string[] {
  try {
    parseConfig(text, "f.yaml");
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(({ line, column, message }) => `${line}:${column}: ${message}`);
  }
  return [];
}

/** The right file with one line replaced; the line's number. */
function changed(line: string, by: string): [text: string, line: number] {
  const lines = right.split("\n");
  const index = lines.findIndex((text) => text.includes(line));
  if (index < 0) throw new Error(`no line with ${line}`);
  lines[index] = by;
  return [lines.join("\n"), index + 1];
}

test("defaults are filled", (t) => {
  const config = parseConfig(right, "/etc/baton/f.yaml");
  t.deepEqual(config.vips, ["10.77.0.100", "fd77::100"]);
  t.deepEqual(config.nats, { embedded: true, listen: "10.77.0.1:4222" });
  t.deepEqual(natsUrls(config), ["nats://10.77.0.1:4222"]);
  t.deepEqual(controllerOf(config, "lb1"), {
    id: "lb1",
    interface: "eth0",
    listen: "10.77.0.1:7600",
    metrics: "10.77.0.1:9600",
    state: "/run/baton/lab/lb1",
    socket: "/run/baton/lab/lb1/api.sock",
    pins: "/sys/fs/bpf/baton/lb1",
  });
  t.is(serverOf(config, "s1").state, "/run/baton/lab/s1");
  t.is(serverOf(config, "s2").state, "/var/lib/baton");
  t.is(serverOf(config, "s2").pins, "/sys/fs/bpf/baton/s2");
  t.deepEqual(config.lease, { durationMs: 100, renewMs: 25, onStoreLoss: "stall" });
  t.is(config.limits.flows, 65536);
  t.deepEqual(config.overload, {
    mode: "on",
    thresholds: { cpu: 0.8, cpuLead: 0.3, pressure: 30, loopDelayMs: 100 },
    lowMark: 0.7,
    sustainedMs: 3_000,
    movesPerSecond: 20,
    restMs: 30_000,
  });
  const [service] = config.services;
  t.is(directoryOf(service!, "s1"), "/etc/baton/content");
  t.is(directoryOf(service!, "s2"), "/other");
  t.is(service!.validator, "sha256");
  t.deepEqual(service!.limits, { bodyMegabytes: 256, responseKilobytes: 64 });
});

test("a service's limits are its own, and else the global ones", (t) => {
  const limited = (limits: string) =>
    changed("name: http", `  - { name: http, port: 80, protocol: http, directory: a, limits: ${limits} }`)[0];
  const limitsOf = (text: string) => parseConfig(`${text}limits: { bodyMegabytes: 8 }\n`, "f").services[0]!.limits;
  t.deepEqual(limitsOf(right), { bodyMegabytes: 8, responseKilobytes: 64 });
  t.deepEqual(limitsOf(limited("{ responseKilobytes: 16 }")), { bodyMegabytes: 8, responseKilobytes: 16 });
  t.deepEqual(limitsOf(limited("{ bodyMegabytes: 0, responseKilobytes: 0 }")), {
    bodyMegabytes: 0,
    responseKilobytes: 0,
  });
  const record = (text: string) => recordBytesMax(parseConfig(text, "f"));
  t.is(record(limited("{ responseKilobytes: 256 }")) - record(right), (256 - 64) * 1024);
  t.is(record(limited("{ responseKilobytes: 0 }")), record(right));
  t.true(record(right) < 1_048_576 - 4_096, "the NATS servers' own limit will do");
});

test("nats.url means that nothing is started", (t) => {
  const one = parseConfig(`${right}nats: { url: "nats://10.0.0.9:4222" }\n`, "f");
  t.deepEqual(one.nats, { embedded: false, urls: ["nats://10.0.0.9:4222"] });
  const two = parseConfig(`${right}nats: { url: ["nats://a:1", "nats://b:2"] }\n`, "f");
  t.deepEqual(natsUrls(two), ["nats://a:1", "nats://b:2"]);
});

// the line to replace, what replaces it, where in it the complaint points ("" = another line), sentence
const wrong: [string, string, string, string][] = [
  ["vips:", "vips: [10.77.0]", "10.77.0]", 'vips[0] must be an IPv4 or IPv6 address, not "10.77.0".'],
  ["vips:", "vips: []", "[]", "vips must name at least one address."],
  ["vips:", "vips: 10.77.0.100", "10.77", 'vips must be a list, not "10.77.0.100".'],
  ["vips:", "vips: [127.0.0.1]", "127", "vips[0] 127.0.0.1 is a loopback address, which clients cannot connect to."],
  ["vips:", "vips: [fd77::100, 'FD77:0::100']", "'FD77:0::100'", "Address fd77::100 is used already by vips[0]."],
  ["vips:", "vips: [10.77.0.101]", "", "Address 10.77.0.101 is used already by vips[0]."],
  ["cluster:", "cluste: lab", "cluste:", 'Unknown key "cluste"; did you mean "cluster"?'],
  [
    "id: s1",
    "  - { id: s1, adress: 10.0.0.1, address: 10.77.0.101 }",
    "adress",
    'Unknown key "adress" in servers[0]; did you mean "address"?',
  ],
  ["id: s1", "  - { id: s1 }", "{", "servers[0].address is missing."],
  ["id: s1", "  - { id: s2, address: 10.77.0.101 }", "", "Id s2 is used already by servers[0].id."],
  ["id: s1", "  - { id: lb1, address: 10.77.0.101 }", "lb1", "Id lb1 is used already by controllers[0].id."],
  [
    "id: s1",
    '  - { id: s1, address: 10.77.0.101, metrics: "10.77.0.1:9600" }',
    '"10.77.0.1:9600"',
    "Listen address 10.77.0.1:9600 is used already by controllers[0].metrics.",
  ],
  [
    "id: lb1",
    '  - { id: lb1, listen: "0.0.0.0:7600" }',
    '"0.0.0.0:7600"',
    "controllers[0].listen must be an address that agents can connect to, not 0.0.0.0:7600.",
  ],
  ["id: lb1", "  - { id: lb1, listen: 7600 }", "7600", "controllers[0].listen must be a text, not 7600."],
  [
    "name: http",
    "  - { name: http, port: 0, protocol: http, directory: a }",
    "0,",
    "services[0].port must be 1 to 65535, not 0.",
  ],
  [
    "name: http",
    "  - { name: http, port: 80, protocol: gopher, directory: a }",
    "gopher",
    'services[0].protocol must be http or ftp or rtsp or app, not "gopher".',
  ],
  [
    "name: http",
    "  - { name: http, port: 80, protocol: http, directory: a, directories: { s3: b } }",
    "s3",
    'There is no server "s3"; did you mean "s1"?',
  ],
  ["name: http", "  - { name: http, port: 80, protocol: http }", "{", "services[0].directory is missing."],
  [
    "name: http",
    "  - { name: http, port: 80, protocol: http, directory: a, users: u }",
    "users",
    "services[0].users must be left out: protocol http has no users.",
  ],
  [
    "name: http",
    "  - { name: http, port: 80, protocol: http, directory: a, realm: films }",
    "realm",
    "services[0].realm must be left out: protocol http has none.",
  ],
  [
    "name: http",
    "  - { name: rtsp, port: 554, protocol: rtsp, directory: a, realm: films }",
    "realm",
    "services[0].realm must be left out: the service has no users.",
  ],
  ["name: http", "  - { name: rtsp, port: 554, protocol: rtsp, users: u }", "{", "services[0].directory is missing."],
  [
    "name: http",
    "  - { name: rtsp, port: 554, protocol: rtsp, directory: a, users: u, realm: 'a:b' }",
    "'a:b'",
    'services[0].realm must be 1 to 64 characters of ASCII without quotes, colons and backslashes, not "a:b".',
  ],
  [
    "name: http",
    "  - { name: echo, port: 7, protocol: app, directory: a }",
    "directory",
    "services[0].directory must be left out: protocol app serves no files.",
  ],
  [
    "name: http",
    "  - { name: echo, port: 7, protocol: app, directories: { s1: a } }",
    "directories",
    "services[0].directories must be left out: protocol app serves no files.",
  ],
  [
    "cluster:",
    "lease: { renewMs: 80 }",
    "80",
    "lease.renewMs must be at most half of lease.durationMs (100), so that one lost renewal does not fence a server.",
  ],
  [
    "cluster:",
    'nats: { listen: "10.77.0.1:4222", url: "nats://a:1" }',
    "listen",
    "nats has either listen or url, not both.",
  ],
  ["cluster:", "overload: { mode: maybe }", "maybe", 'overload.mode must be on or dry-run or off, not "maybe".'],
  ["cluster:", "overload: { mode: true }", "true", "overload.mode must be on or dry-run or off, not true."],
  ["cluster:", "overload: { lowMark: 1 }", "1", "overload.lowMark must be below 1, not 1."],
  ["cluster:", "overload: { movesPerSecond: 0 }", "0", "overload.movesPerSecond must be at least 1, not 0."],
  ["cluster:", "overload: { thresholds: { cpu: 80 } }", "80", "overload.thresholds.cpu must be at most 1, not 80."],
  [
    "cluster:",
    "overload: { thresholds: { egress: 80 } }",
    "egress",
    'Unknown key "egress" in overload.thresholds; known are cpu, cpuLead, pressure, loopDelayMs, egressMegabytesPerSecond, connections.',
  ],
  ...(
    [
      ["responseKilobytes: 257", "257", "services[0].limits.responseKilobytes must be at most 256, not 257."],
      ["responseKilobytes: -1", "-1", "services[0].limits.responseKilobytes must be at least 0, not -1."],
      ["bodyMegabytes: 0.5", "0.5", "services[0].limits.bodyMegabytes must be a whole number, not 0.5."],
      ["bodyMegabytes: 16385", "16385", "services[0].limits.bodyMegabytes must be at most 16384, not 16385."],
      [
        "bodyMegabyte: 1",
        "bodyMegabyte",
        'Unknown key "bodyMegabyte" in services[0].limits; did you mean "bodyMegabytes"?',
      ],
    ] as const
  ).map(([limit, points, sentence]): [string, string, string, string] => [
    "name: http",
    `  - { name: http, port: 80, protocol: http, directory: a, limits: { ${limit} } }`,
    points,
    sentence,
  ]),
  ["cluster:", "vips: [10.77.0.5]", "", "Map keys must be unique."],
];
for (const [line, by, points, sentence] of wrong) {
  test(`${by.trim()}: ${sentence}`, (t) => {
    const [text, at] = changed(line, by);
    const found = complaints(text);
    t.is(found.length, 1, found.join("\n"));
    t.true(found[0]?.endsWith(`: ${sentence}`), found[0]);
    if (points !== "") t.true(found[0]?.startsWith(`${at}:${by.indexOf(points) + 1}: `), found[0]);
  });
}

test("all errors are listed, in the file's order", (t) => {
  const found = complaints(
    `vips: [x]\nserver: []\ncontrollers:\n  - { id: lb1 }\nservers: [{ id: s1, address: 1.2.3.4 }]\n`,
  );
  t.deepEqual(found, [
    "1:1: services is missing.",
    '1:8: vips[0] must be an IPv4 or IPv6 address, not "x".',
    '2:1: Unknown key "server"; did you mean "servers"?',
    "4:5: controllers[0].listen is missing.",
  ]);
});

test("broken YAML and an empty file get sentences", (t) => {
  t.regex(complaints("vips: [a\nb: 2\n")[0] ?? "", /^2:1: .+\.$/);
  t.is(complaints("").length, 4);
  t.regex(complaints("a: *nobody\n")[0] ?? "", /^1:\d+: .*nobody.*\.$/);
  t.regex(complaints("- a\n")[0] ?? "", /^1:1: The configuration must be a block of keys and values, not a list\.$/);
});

test("a file that cannot be read is said so", (t) => {
  const error = t.throws(() => loadConfig("/nonexistent/f.yaml"), { instanceOf: BatonError });
  t.is(error?.code, "CONFIG_UNREADABLE");
  t.is(error?.message, "Cannot read the configuration /nonexistent/f.yaml: there is no such file.");
});

test("an unknown id is said with those that there are", (t) => {
  const config = parseConfig(right, "f.yaml");
  t.throws(() => serverOf(config, "web"), { message: /has no server "web"; it has s1, s2\.$/ });
  t.throws(() => controllerOf(config, "lb2"), { message: /has no controller "lb2"; did you mean "lb1"\?$/ });
});

test("content directories are looked at for the server that serves them", (t) => {
  const directory = testDirectory(t);
  const file = join(directory, "f.yaml");
  writeFileSync(file, right);
  const config = loadConfig(file);
  t.throws(() => requireContent(config, "s1"), {
    message: `The directory ${directory}/content of service http does not exist.`,
  });
  mkdirSync(join(directory, "content"));
  t.notThrows(() => requireContent(config, "s1"));
  t.throws(() => requireContent(config, "s2"), { message: "The directory /other of service http does not exist." });
  const service = config.services[0]!;
  service.directory = file;
  t.throws(() => requireContent(config, "s1"), { message: /is not a directory\.$/ });
});

test("a service of protocol app has no directory, and none is looked for", (t) => {
  const [text] = changed("name: http", "  - { name: echo, port: 7, protocol: app }");
  const config = parseConfig(text, "f.yaml");
  t.false("directory" in config.services[0]!);
  t.notThrows(() => requireContent(config, "s1"));
  t.throws(() => directoryOf(config.services[0]!, "s1"), { code: "CONFIG_INVALID" });
});

test("the schema for editors knows every key and needs no defaults", (t) => {
  const schema = jsonSchema() as { properties: Record<string, unknown>; required: string[] };
  t.deepEqual(Object.keys(schema.properties), [
    "cluster",
    "vips",
    "nats",
    "controllers",
    "servers",
    "services",
    "lease",
    "limits",
    "overload",
  ]);
  t.deepEqual(schema.required, ["vips", "controllers", "servers", "services"]);
});
