import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { Reload as AgentReload, type SuccessorProcess } from "../../agent/supervisor/reload.js";
import { Reload as ControllerReload } from "../../controller/reload.js";
import { type Config, loadConfig, parseConfig, reloadProblem } from "../../proto/config/index.js";
import { testDirectory } from "../support/directory.js";

const base = `
vips: [10.0.0.100]
controllers: [{ id: lb1, listen: "10.0.0.1:7600" }]
servers: [{ id: s1, address: 10.0.0.101 }, { id: s2, address: 10.0.0.102 }]
services:
  - { name: web, port: 80, protocol: http, directory: . }
  - { name: app, port: 7, protocol: app }
`;
const more = "  - { name: other, port: 81, protocol: http, directory: . }\n";

const problem = (text: string) => reloadProblem(parseConfig(base, "f.yaml"), parseConfig(text, "f.yaml"));

test("services, the overload policy and what is kept of bodies may change under way", (t) => {
  t.is(problem(base), "");
  t.is(problem(base + more), "");
  t.is(problem(base.replace("directory: .", "directory: /srv, validator: mtime+size")), "");
  t.is(problem(base.replace("directory: .", "upstream: 'http://127.0.0.1:81', repeat: none")), "");
  t.is(problem(base.replace("directory: .", "directory: ., limits: { responseKilobytes: 1, bodyMegabytes: 1 }")), "");
  t.is(problem(`${base}overload: { mode: off }\n`), "");
  t.is(
    problem(
      `${base}limits: { drainMs: 1, bodyMegabytes: 1, spillMegabytes: 1, connectionsPerClient: 1, halfOpenPerClient: 1 }\n`,
    ),
    "",
  );
});

test("what all daemons have to agree on does not change under way, and is named", (t) => {
  const cases: Array<[string, RegExp]> = [
    [base.replace("10.0.0.100", "10.0.0.99"), /^vips\[0\] has changed/],
    [base.replace("[10.0.0.100]", "[10.0.0.100, 10.0.0.99]"), /^vips has changed/],
    [base.replace("id: s2,", "id: s3,"), /^servers\[1\]\.\w+ has changed/],
    [base.replace("7600", "7601"), /^controllers\[0\]\.listen has changed/],
    [`${base}lease: { durationMs: 200 }\n`, /^lease\.durationMs has changed/],
    [`${base}limits: { inputBytes: 8192 }\n`, /^limits\.inputBytes has changed/],
    [`${base}cluster: other\n`, /^cluster has changed/],
    [base.replace("directory: .", "directory: ., limits: { responseKilobytes: 65 }"), /^responseKilobytes has grown/],
    [base.replace("port: 7,", "port: 8,"), /^the service app \(app, port 7\) is gone or another one/],
    [base.replace("directory: .", "directory: ., protect: false"), /^the service web \(http, port 80\)/],
  ];
  for (const [text, sentence] of cases) t.regex(problem(text), sentence);
});

function scene(t: Parameters<typeof testDirectory>[0]) {
  const file = join(testDirectory(t), "f.yaml");
  const write = (text: string) => writeFileSync(file, text);
  write(base);
  return { write, config: loadConfig(file) };
}

test("a controller goes by a good file, and by none that is bad or fails half-way", (t) => {
  const { write, config } = scene(t);
  const applied: string[][] = [];
  let fails = false;
  const reload = new ControllerReload(config, ({ services }: Config) => {
    applied.push(services.map(({ name }) => name));
    if (fails && services.length > 3) throw new Error("no room");
  });
  write(base + more);
  reload.request();
  t.deepEqual(applied.splice(0), [["web", "app", "other"]]);
  t.is(reload.config.services.length, 3);

  for (const bad of ["vips: [", base, `${base}lease: { durationMs: 1 }\n`, `${base}cluster: other\n`]) {
    write(bad);
    reload.request();
  }
  t.deepEqual(applied, []);
  t.is(reload.config.services.length, 3);

  fails = true;
  write(base + more + more.replace("other", "another").replace("81", "82"));
  reload.request();
  t.deepEqual(applied, [
    ["web", "app", "other", "another"],
    ["web", "app", "other"],
  ]);
  t.is(reload.config.services.length, 3);
});

test("an agent starts its successor for a good file only, one at a time, and passes on what it was asked meanwhile", (t) => {
  const { write, config } = scene(t);
  const signals: string[] = [];
  let end: (code: number | null, signal: string | null) => void = () => {};
  let started = 0;
  const reload = new AgentReload(config, "s1", () => {
    started++;
    const successor: SuccessorProcess = {
      kill: (signal) => signals.push(signal),
      once: (event: string, listener: (...of: never[]) => void) => {
        if (event === "exit") end = listener as typeof end;
      },
    };
    return successor;
  });
  for (const bad of [
    "services: []",
    `${base}lease: { renewMs: 30 }\n`,
    base.replace("directory: .", "directory: nowhere"),
  ]) {
    write(bad);
    reload.request();
  }
  t.is(started, 0);
  write(base + more);
  reload.request();
  reload.request();
  t.is(started, 1, "the second waits for the first");
  end(1, null);
  t.is(started, 2, "that came to nothing: the file is read again");
  end(1, null);
  t.is(started, 2);
  reload.request();
  reload.request();
  reload.replaced();
  t.deepEqual([started, signals], [3, ["SIGHUP"]]);
});
