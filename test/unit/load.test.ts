import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { LoadMeter, linkSpeed, usableCores } from "../../agent/load.js";
import { testDirectory } from "../support/directory.js";

test("a host's load: what its group has used and waited for since the last sample", async (t) => {
  const group = testDirectory(t);
  const write = (usedUs: number, waitedUs: number) => {
    writeFileSync(join(group, "cpu.stat"), `usage_usec ${usedUs}\nuser_usec 1\n`);
    const full = "full avg10=0.00 avg60=0.00 avg300=0.00 total=99";
    writeFileSync(join(group, "cpu.pressure"), `some avg10=12.50 avg60=1.00 avg300=0.10 total=${waitedUs}\n${full}\n`);
  };
  writeFileSync(join(group, "cpu.max"), "50000 100000\n");
  write(1_000_000, 5_000_000);
  const meter = new LoadMeter("lo", group);
  const began = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 50));
  write(1_030_000, 5_010_000);
  const load = meter.sample();
  const seconds = (performance.now() - began) / 1000;
  t.true(load.cpu > 0.02 / seconds && load.cpu < 0.04 / seconds, `${load.cpu}`);
  t.true(load.cpuWaiting > 0.005 / seconds && load.cpuWaiting < 0.015 / seconds, `${load.cpuWaiting}`);
  t.is(load.pressure, 12.5);
  t.is(load.cores, 0.5);
  t.is(load.linkBytesPerSecond, 0);
});

test("usable cores: the least of what a group and those above it may use", (t) => {
  const root = testDirectory(t);
  const group = join(root, "a", "b");
  mkdirSync(group, { recursive: true });
  t.is(usableCores(group, 4), 4, "no controller");
  writeFileSync(join(group, "cpu.max"), "max 100000\n");
  t.is(usableCores(group, 4), 4);
  writeFileSync(join(root, "a", "cpu.max"), "150000 100000\n");
  t.is(usableCores(group, 4), 1.5);
  writeFileSync(join(group, "cpu.max"), "50000 100000\n");
  t.is(usableCores(group, 4), 0.5);
  t.is(usableCores(group, 0.25), 0.25);
});

test("a link's speed is a real device's, where it is known", (t) => {
  const link = testDirectory(t);
  writeFileSync(join(link, "speed"), "10000\n");
  t.is(linkSpeed(link), 0, "a veth");
  mkdirSync(join(link, "device"));
  t.is(linkSpeed(link), 1.25e9);
  writeFileSync(join(link, "speed"), "-1\n");
  t.is(linkSpeed(link), 0);
});
