import { execFile, execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";
import { native, TcpError } from "../../agent/native/index.js";
import { stages } from "./stages.js";

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), "bt-native-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a script with `native` in a process of its own. @returns its standard output */
async function inChild(script: string): Promise<string> {
  const index = new URL("../../agent/native/index.js", import.meta.url).href;
  const { stdout } = await run(process.execPath, [
    "--input-type=module",
    "-e",
    `import { native } from "${index}";\n${script}`,
  ]);
  return stdout.trim();
}

const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;

function flagsOf(fd: number): number {
  const info = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
  return Number.parseInt(/^flags:\s+(\d+)$/m.exec(info)![1]!, 8);
}

test("a digest names the content and the version of the file that it is of", async (t) => {
  const path = join(folder, "digest");
  const content = randomBytes(3 * 2 ** 20 + 17);
  writeFileSync(path, content);
  const status = statSync(path, { bigint: true });
  t.deepEqual(await native.hashFile(path), {
    sha256: createHash("sha256").update(content).digest("hex"),
    device: status.dev,
    inode: status.ino,
    size: content.length,
    mtimeNs: status.mtimeNs,
    ctimeNs: status.ctimeNs,
  });
  writeFileSync(path, "");
  t.is((await native.hashFile(path)).sha256, createHash("sha256").digest("hex"));
});

test("a file that changes while it is read has no digest", async (t) => {
  const path = join(folder, "changing");
  writeFileSync(path, randomBytes(100 * 2 ** 20));
  const digest = native.hashFile(path);
  await sleep(10);
  appendFileSync(path, "more");
  await t.throwsAsync(digest, { instanceOf: TcpError, message: /ESTALE/ });
});

test("only regular files are opened, without waiting", async (t) => {
  const fifo = join(folder, "fifo");
  execFileSync("mkfifo", [fifo]);
  t.throws(() => native.openFile(fifo), { instanceOf: TcpError, message: /EINVAL/ });
  t.throws(() => native.openFile(folder), { instanceOf: TcpError, message: /EISDIR/ });
  t.like(
    t.throws(() => native.openFile(join(folder, "none"))),
    { code: "ENOENT", step: "open", subject: join(folder, "none") },
  );
  await t.throwsAsync(native.hashFile(folder), { instanceOf: TcpError, message: /EISDIR/ });
  const fd = native.openFile(process.execPath);
  t.is(flagsOf(fd) & (O_CLOEXEC | O_NONBLOCK), O_CLOEXEC | O_NONBLOCK);
  native.closeFd(fd);
  t.throws(() => native.closeFd(fd), { instanceOf: TcpError, message: /EBADF/ });
});

test("the end of a process is seen once, within milliseconds", async (t) => {
  const child = spawn("sleep", ["60"]);
  let ends = 0;
  const ended = new Promise<number>((resolve) =>
    native.watchProcess(child.pid!, () => {
      ends++;
      resolve(performance.now());
    }),
  );
  await sleep(50);
  t.is(ends, 0);
  const killed = performance.now();
  child.kill("SIGKILL");
  t.true((await ended) - killed < 500);
  await sleep(20);
  t.is(ends, 1);
  t.throws(() => native.watchProcess(2 ** 22 + 1, () => {}), { instanceOf: TcpError, message: /ESRCH|EINVAL/ });
});

test("descriptors and their message arrive together in another process", async (t) => {
  const path = join(folder, "socket");
  const content = join(folder, "passed");
  writeFileSync(content, "through another process");
  const received = new Promise<{ fds: number[]; message: Buffer }>((resolve) => {
    const receiver = native.receiveDescriptors(path, (fds, message) => {
      receiver.close();
      resolve({ fds, message });
    });
  });
  await inChild(`
    const fd = native.openFile(${JSON.stringify(content)});
    await native.sendDescriptors(${JSON.stringify(path)}, [fd, fd], Buffer.from("two of them"));
  `);
  const { fds, message } = await received;
  t.is(message.toString(), "two of them");
  t.is(fds.length, 2);
  t.is(readFileSync(`/proc/self/fd/${fds[0]}`, "utf8"), "through another process");
  for (const fd of fds) t.is(flagsOf(fd) & O_CLOEXEC, O_CLOEXEC);
  for (const fd of fds) native.closeFd(fd);
  t.false(existsSync(path));
  await t.throwsAsync(native.sendDescriptors(path, [0], Buffer.from("x")), { instanceOf: TcpError, message: /ENOENT/ });
  await t.throwsAsync(native.sendDescriptors(path, [0], Buffer.alloc(0)), {
    instanceOf: TcpError,
    message: /EMSGSIZE/,
  });
});

test("every thread becomes real-time but those that are nice on purpose", async (t) => {
  const policies = await inChild(`
    import { readdirSync, readFileSync } from "node:fs";
    await native.hashFile("/etc/hostname");
    const allowed = native.setRealtime(10);
    const threads = readdirSync("/proc/self/task").map((thread) => {
      const text = readFileSync("/proc/self/task/" + thread + "/stat", "utf8");
      const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
      return { name: text.slice(text.indexOf("(") + 1, text.lastIndexOf(")")), nice: Number(fields[16]), policy: Number(fields[38]) };
    });
    console.log(JSON.stringify({ allowed, threads }));
  `);
  const { allowed, threads } = JSON.parse(policies) as {
    allowed: boolean;
    threads: Array<{ name: string; nice: number; policy: number }>;
  };
  const SCHED_RR = 2;
  const hash = threads.filter((thread) => thread.name === "baton-hash");
  t.deepEqual(hash, [{ name: "baton-hash", nice: 10, policy: 0 }]);
  const others = threads.filter((thread) => thread.name !== "baton-hash");
  t.true(others.length > 4);
  t.is(
    allowed,
    others.every((thread) => thread.policy === SCHED_RR),
  );
});

test("a process joins its cgroup, which is made", async (t) => {
  const parent = "/sys/fs/cgroup/unified/bt-native";
  const group = `${parent}/joined`;
  try {
    t.is(
      await inChild(`
      import { readFileSync } from "node:fs";
      native.joinCgroup(${JSON.stringify(group)});
      console.log(/^0::(.*)$/m.exec(readFileSync("/proc/self/cgroup", "utf8"))[1]);
    `),
      "/bt-native/joined",
    );
  } finally {
    for (const path of [group, parent]) if (existsSync(path)) rmdirSync(path);
  }
  t.throws(() => native.joinCgroup("/proc/none"), { instanceOf: TcpError, message: /cgroup/ });
});

test("the clock is CLOCK_MONOTONIC", (t) => {
  const before = process.hrtime.bigint();
  const now = native.monotonicNs();
  t.true(before <= now && now <= process.hrtime.bigint());
});

for (const stage of Object.keys(stages)) {
  test.serial(`a process that ends at stage "${stage}" ends well`, async (t) => {
    const script = fileURLToPath(new URL("./stages.js", import.meta.url));
    const { stderr } = await run(process.execPath, ["--expose-gc", script, stage, folder], { timeout: 20_000 });
    t.is(stderr, "");
  });
}
