import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import test from "ava";
import { root } from "../../proto/paths.js";
import { cgroupMount, lives } from "../support/host.js";

const keepers: ChildProcess[] = [];

function start(script: string): ChildProcess {
  const keeper = spawn(join(root, "test/lab/apart"), ["bash", "-c", script], { stdio: ["pipe", "pipe", "pipe"] });
  keepers.push(keeper);
  return keeper;
}

/** Runs a script in a world of its own. @returns its status, what it said, and what was said of it */
async function apart(script: string, input = ""): Promise<{ status: number; out: string; err: string }> {
  const child = start(script);
  child.stdin!.end(input);
  const [out, err, [status]] = await Promise.all([text(child.stdout!), text(child.stderr!), once(child, "close")]);
  return { status: status as number, out, err };
}

/** A world in which something sleeps for ever. @returns the pid of that, too */
async function sleeping(): Promise<{ keeper: ChildProcess; sleeper: number }> {
  const keeper = start("sleep infinity & echo $!; wait");
  const [line] = (await once(keeper.stdout!, "data")) as [Buffer];
  return { keeper, sleeper: Number(line.toString()) };
}

test.afterEach.always("no world is left", (t) => {
  const present = readdirSync(cgroupMount());
  t.deepEqual(
    keepers.filter(({ pid }) => present.includes(`baton-apart-${pid}`)),
    [],
  );
});

test.serial("a command has its status, its input and its output", async (t) => {
  t.deepEqual(await apart("cat; echo no >&2; exit 3", "yes\n"), { status: 3, out: "yes\n", err: "no\n" });
});

test.serial("what is made in a world is nobody else's, and leaves with it", async (t) => {
  const script = "ip netns add baton-sw; mkdir /sys/fs/bpf/baton; touch /run/baton; cat /proc/self/cgroup; exit 5";
  const { status, out, err } = await apart(script);
  t.is(status, 5, "the command's own status");
  t.regex(out, /^0::\/$/m, "its group is the root of what it sees");
  for (const name of ["/run/baton", "/run/netns/baton-sw", "/sys/fs/bpf/baton"]) {
    t.true(err.includes(name), err);
    t.false(existsSync(name), name);
  }
});

test.serial("what is left behind is a failure: a file, a group, a process", async (t) => {
  t.like(await apart("touch /run/lost"), { status: 70, err: "apart: left behind: /run/lost\n" });
  const group = await apart(`mkdir ${cgroupMount()}/lost`);
  t.like(group, { status: 70, err: `apart: left behind: ${cgroupMount()}/lost\n` });
  const process = await apart("setsid -f sleep infinity >/dev/null 2>&1 </dev/null; pgrep -n sleep");
  t.is(process.status, 70);
  t.is(process.err, `apart: left running: ${process.out.trim()} sleep\n`);
  t.false(lives(Number(process.out)));
});

test.serial("a world ends with SIGTERM", async (t) => {
  const { keeper, sleeper } = await sleeping();
  keeper.kill("SIGTERM");
  const [status] = await once(keeper, "close");
  t.is(status, 143);
  t.false(lives(sleeper));
});

test.serial("a world whose keeper was killed is ended by the next, and one that has its keeper is not", async (t) => {
  const [lost, kept] = await Promise.all([sleeping(), sleeping()]);
  lost.keeper.kill("SIGKILL");
  await once(lost.keeper, "exit");
  t.true(lives(lost.sleeper));
  t.like(await apart("true"), { status: 0, err: "" });
  t.false(lives(lost.sleeper));
  t.true(lives(kept.sleeper));
  kept.keeper.kill("SIGTERM");
  await once(kept.keeper, "close");
});
