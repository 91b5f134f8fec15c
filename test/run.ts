import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { root } from "../proto/paths.js";
import { leftovers } from "./support/leftovers.js";
import { closingLine, parseTapLine, type Tally } from "./support/tap.js";

/**
 * Minutes after which a group is ended; minutes without any news after which the file that runs is ended, which is longer
 * than any test of it may take; whether its files may run side by side.
 */
const GROUPS: Record<string, { minutes: number; quietMinutes: number; parallel: boolean }> = {
  unit: { minutes: 8, quietMinutes: 1, parallel: true },
  bpf: { minutes: 6, quietMinutes: 1, parallel: false },
  native: { minutes: 6, quietMinutes: 1, parallel: false },
  lab: { minutes: 40, quietMinutes: 3, parallel: false },
  long: { minutes: 240, quietMinutes: 60, parallel: false },
};

const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
const skips: string[] = [];
const failures: string[] = [];

function fail(title: string): void {
  tally.failed++;
  failures.push(title);
}

/** Runs one group's compiled tests with ava and counts what they say. Files of a group that is not parallel run one by one. */
async function runGroup(name: string, files: string[]): Promise<void> {
  const group = GROUPS[name]!;
  const tests = join("dist", "test", name);
  if (!existsSync(join(root, tests))) return fail(`${name}: there are no tests`);
  const started = Date.now();
  console.log(`\n# ${name}`);

  const patterns = files.length > 0 ? files : [`${tests}/**/*.test.js`];
  const concurrency = group.parallel ? [] : ["--concurrency=1", "--serial"];
  // In a process group of its own, so that the deadline ends ava together with the tests' processes.
  const ava = spawn(
    process.execPath,
    [
      join(root, "node_modules/ava/entrypoints/cli.mjs"),
      "--tap",
      `--timeout=${group.quietMinutes}m`,
      ...concurrency,
      ...patterns,
    ],
    {
      cwd: root,
      stdio: ["ignore", "pipe", "inherit"],
      detached: true,
      env: { ...process.env, FORCE_COLOR: "0" },
    },
  );
  let late = false;
  const deadline = setTimeout(() => {
    late = true;
    process.kill(-ava.pid!, "SIGKILL");
  }, group.minutes * 60_000);

  const failedBefore = tally.failed;
  for await (const line of createInterface({ input: ava.stdout })) {
    const said = parseTapLine(line);
    if (said.kind === "passed") tally.passed++;
    if (said.kind === "failed") fail(`${name}: ${said.title}`);
    if (said.kind === "skipped") {
      tally.skipped++;
      skips.push(`${name}: ${said.title.replace(/: [^:]*$/, "")}: ${said.why}`);
    }
    if (line !== "TAP version 13" && !line.startsWith("1..") && line !== "") console.log(line);
  }
  const code = ava.exitCode ?? (await new Promise<number | null>((resolve) => ava.once("exit", resolve)));
  clearTimeout(deadline);
  if (late) fail(`${name}: not finished after ${group.minutes} minutes`);
  else if (code !== 0 && tally.failed === failedBefore)
    fail(`${name}: ava ended with ${code} without naming a failed test`);
  console.log(`# ${name}: ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

const wanted = process.argv.slice(2);
const groups = wanted.filter((word) => word in GROUPS);
const files = wanted.filter((word) => !(word in GROUPS));
if (groups.length === 0) {
  console.error(`usage: run.js GROUP... [FILE...]   groups: ${Object.keys(GROUPS).join(" ")}`);
  process.exit(2);
}

const before = new Set(leftovers());
for (const group of groups) await runGroup(group, files);

// The lab's own names are never somebody else's: those count even if they were there before.
const labs = /\/(baton|baton-(sw|client|lb\d+|s\d+))$/;
const left = leftovers().filter((path) => !before.has(path) || labs.test(path));
if (left.length === 0) tally.passed++;
else fail(`nothing is left behind: ${left.join(" ")}`);
console.log(`${left.length === 0 ? "ok" : "not ok"} - no namespace, pin, process or file of the lab is left`);

if (skips.length > 0) console.log(`\nskipped:\n${skips.map((line) => `  ${line}`).join("\n")}`);
if (failures.length > 0) console.log(`\nfailed:\n${failures.map((line) => `  ${line}`).join("\n")}`);
console.log(`\n${closingLine(tally)}`);
process.exitCode = tally.failed === 0 ? 0 : 1;
