import "../support/quiet.js";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { DirectoryContent } from "../../agent/content/index.js";
import { Dampener } from "../../agent/health/dampener.js";
import { HealthWatch } from "../../agent/health/index.js";
import { testDirectory } from "../support/directory.js";
import { eventually } from "../support/eventually.js";

test("three results in a row change the verdict, and nothing less", (t) => {
  fc.assert(
    fc.property(fc.array(fc.boolean()), (results) => {
      const dampener = new Dampener();
      const seen: boolean[] = [];
      for (const result of results) {
        const before = dampener.healthy;
        const changed = dampener.add(result);
        seen.push(result);
        const last = seen.slice(-3);
        const unanimous = last.length === 3 && last.every((one) => one !== before);
        if (changed !== unanimous || dampener.healthy !== (unanimous ? !before : before)) return false;
      }
      return true;
    }),
  );
  t.pass();
});

test("a service that fails, hangs, and is well again", async (t) => {
  let health = () => Promise.resolve();
  const watch = new HealthWatch([{ name: "http", health: () => health() }], {
    everyMs: 10,
    doubtMs: 10,
    deadlineMs: 5,
  });
  t.teardown(() => watch.close());
  t.deepEqual(watch.unhealthy, []);
  health = () => Promise.reject(new Error("its directory /srv does not exist"));
  await eventually("it failed", () => watch.unhealthy.length === 1);
  t.deepEqual(watch.unhealthy, [{ service: "http", reason: "its directory /srv does not exist" }]);
  health = () => Promise.resolve();
  await eventually("it is well", () => watch.unhealthy.length === 0);
  let calls = 0;
  let wake = () => {};
  health = () => {
    calls++;
    return new Promise((resolve) => {
      wake = resolve;
    });
  };
  await eventually("it hangs", () => watch.unhealthy.length === 1);
  t.regex(watch.unhealthy[0]!.reason, /does not answer/);
  t.is(calls, 1, "one check at a time");
  health = () => Promise.resolve();
  wake();
  await eventually("it is well again", () => watch.unhealthy.length === 0);
});

test("a client's trouble has a service looked at closely, until it is well or certain not to be", async (t) => {
  let calls = 0;
  let health = () => Promise.resolve();
  let trouble = () => {};
  const service = {
    name: "web",
    health: () => {
      calls++;
      return health();
    },
    onTrouble: (listener: () => void) => {
      trouble = listener;
    },
  };
  const watch = new HealthWatch([service], { everyMs: 3_600_000, doubtMs: 1, deadlineMs: 1_000 });
  t.teardown(() => watch.close());
  trouble();
  trouble();
  await eventually("one check", () => calls === 1);
  await new Promise((resolve) => setImmediate(resolve));
  health = () => Promise.reject(new Error("it is gone"));
  trouble();
  trouble();
  await eventually("it is not healthy", () => watch.unhealthy.length === 1);
  t.is(calls, 4, "three in a row");
  trouble();
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.is(calls, 4, "that is known");
});

test("a directory is healthy while it can be read", async (t) => {
  const parent = testDirectory(t);
  const directory = join(parent, "content");
  mkdirSync(directory);
  const content = await DirectoryContent.open({
    directory,
    validator: "mtime+size",
    hashFile: () => Promise.reject(new Error("not needed")),
  });
  await t.notThrowsAsync(content.health());
  renameSync(directory, `${directory}-away`);
  await t.throwsAsync(content.health(), { message: `its directory ${directory} does not exist` });
  writeFileSync(directory, "");
  await t.throwsAsync(content.health(), { message: `its directory ${directory} cannot be read (ENOTDIR)` });
});
