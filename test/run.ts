import { existsSync } from "node:fs";
import { join } from "node:path";
import { root } from "../proto/paths.js";
import { runAva } from "./support/ava.js";
import { Failure } from "./support/failure.js";
import { isAlone, labFiles, labsAtOnce } from "./support/labs.js";
import { leftovers } from "./support/leftovers.js";
import { closingLine, parseTapLine, type Tally } from "./support/tap.js";

interface Group {
  /** After which it is ended. */
  minutes: number;
  /** Without any news after which the file that runs is ended, which is longer than any test of it may take. */
  quietMinutes: number;
  /** Whether files run side by side. */
  parallel?: true;
  /** Each file has a lab of its own in a world of its own; so many at a time. */
  labs?: number;
}

const GROUPS: Record<string, Group> = {
  unit: { minutes: 8, quietMinutes: 1, parallel: true },
  bpf: { minutes: 6, quietMinutes: 1 },
  native: { minutes: 6, quietMinutes: 1 },
  lab: { minutes: 60, quietMinutes: 3, labs: labsAtOnce() },
  long: { minutes: 240, quietMinutes: 60, labs: 1 },
};

const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
const skips: string[] = [];
const failures: Failure[] = [];
const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => interrupted.abort());

function fail(title: string): Failure {
  const failure = new Failure(title);
  tally.failed++;
  failures.push(failure);
  return failure;
}

/** What is neither a result nor what belongs to one. */
const isFrame = (line: string) => /^(TAP version 13|1\.\..*|# (tests|pass|skip|fail) \d+|)$/.test(line);

/** Runs one group's compiled tests with ava and counts what they say. */
async function runGroup(name: string, wanted: string[]): Promise<void> {
  const { minutes, quietMinutes, parallel = false, labs } = GROUPS[name]!;
  const directory = join("dist", "test", name);
  if (!existsSync(join(root, directory))) return void fail(`${name}: there are no tests`);
  const started = Date.now();
  console.log(`\n# ${name}`);
  const late = AbortSignal.timeout(minutes * 60_000);
  const signal = AbortSignal.any([late, interrupted.signal]);

  /** @param what they are, in failures */
  const run = async (what: string, tests: string[], print: (line: string) => void): Promise<void> => {
    let failed = 0;
    /** Whose details are being said. */
    let told: Failure | undefined;
    const say = (line: string) => {
      const said = parseTapLine(line);
      if (said.kind !== "other") told = undefined;
      told?.add(line);
      if (line === "  ...") told = undefined;
      if (said.kind === "passed") tally.passed++;
      if (said.kind === "failed") {
        failed++;
        told = fail(`${what}: ${said.title}`);
      }
      if (said.kind === "skipped") {
        tally.skipped++;
        skips.push(`${what}: ${said.title.replace(/: [^:]*$/, "")}: ${said.why}`);
      }
      if (!isFrame(line)) print(line);
    };
    const status = await runAva({ tests, quietMinutes, parallel, apart: labs !== undefined, signal, say });
    if (status !== 0 && failed === 0 && !signal.aborted)
      fail(`${what}: ended with ${status} without naming a failed test`);
  };

  /** File by file, in their order; what one says is printed when it is over. */
  const runApart = async (files: string[], atOnce: number): Promise<void> => {
    const left = [...files];
    const next = async (): Promise<void> => {
      for (let file = left.shift(); file && !signal.aborted; file = left.shift()) {
        const what = file.replace(/^dist\/test\/|\.test\.js$/g, "");
        const began = Date.now();
        const lines: string[] = [];
        let last = began;
        // A line comes when what it tells of has ended; what took a second and more says so.
        await run(what, [file], (line) => {
          lines.push(Date.now() - last < 1_000 ? line : `${line} (${secondsSince(last)} s)`);
          last = Date.now();
        });
        console.log(`\n# ${what}: ${secondsSince(began)} s\n${lines.join("\n")}`);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, next));
  };

  if (labs === undefined) {
    await run(name, wanted.length > 0 ? wanted : [`${directory}/**/*.test.js`], (line) => console.log(line));
  } else {
    const files = wanted.length > 0 ? wanted : labFiles(directory);
    await runApart(
      files.filter((file) => !isAlone(file)),
      labs,
    );
    await runApart(files.filter(isAlone), 1);
  }
  if (interrupted.signal.aborted) fail(`${name}: interrupted`);
  else if (late.aborted) fail(`${name}: not finished after ${minutes} minutes`);
  console.log(`# ${name}: ${secondsSince(started)} s`);
}

function secondsSince(ms: number): string {
  return ((Date.now() - ms) / 1000).toFixed(1);
}

const words = process.argv.slice(2);
const groups = words.filter((word) => word in GROUPS);
const files = words.filter((word) => !(word in GROUPS));
if (groups.length === 0) {
  console.error(`usage: run.js GROUP... [FILE...]   groups: ${Object.keys(GROUPS).join(" ")}`);
  process.exit(2);
}

// A lab that somebody has up is not the tests'.
const before = new Set(leftovers());
for (const group of groups) if (!interrupted.signal.aborted) await runGroup(group, files);

const left = leftovers().filter((path) => !before.has(path));
if (left.length === 0) tally.passed++;
else fail(`nothing is left behind: ${left.join(" ")}`);
console.log(`${left.length === 0 ? "ok" : "not ok"} - no namespace, pin, process or file of the lab is left`);

if (skips.length > 0) console.log(`\nskipped:\n${skips.map((line) => `  ${line}`).join("\n")}`);
if (failures.length > 0) console.log("\nfailed:");
for (const failure of failures)
  console.log(
    failure
      .lines()
      .map((line) => `  ${line}`)
      .join("\n"),
  );
console.log(`\n${closingLine(tally)}`);
process.exitCode = tally.failed === 0 ? 0 : 1;
