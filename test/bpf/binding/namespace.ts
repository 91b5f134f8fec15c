import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { dirname, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** Where this process's tests pin; removed at the end. */
export const pins = `/sys/fs/bpf/baton-test-binding/${process.env.BATON_TEST_PINS ?? process.pid}`;

/** A folder of its own under bpffs (mounted if it is not). */
export function makePins(): void {
  if (spawnSync("mountpoint", ["-q", "/sys/fs/bpf"]).status !== 0)
    spawnSync("mount", ["-t", "bpf", "bpf", "/sys/fs/bpf"], { stdio: "inherit" });
  mkdirSync(pins, { recursive: true });
}

export function removePins(): void {
  rmSync(pins, { recursive: true, force: true });
  // Whoever is last also takes the common folders away.
  spawnSync("rmdir", ["--parents", "--ignore-fail-on-non-empty", relative("/sys/fs/bpf", dirname(pins))], {
    cwd: "/sys/fs/bpf",
    stdio: "ignore",
  });
}

export interface Ended {
  code: number | null;
  signal: string | null;
  output: string;
}

/** Runs a module of this folder in a network namespace of its own, which is removed afterwards. */
export async function inNamespace(module: string, argument: string): Promise<Ended> {
  const name = `bt-binding-${process.pid}-${argument}`.slice(0, 60);
  const added = spawnSync("ip", ["netns", "add", name], { encoding: "utf8" });
  if (added.status !== 0) throw new Error(`ip netns add ${name}: ${added.stderr}`);
  try {
    return await new Promise((resolve, reject) => {
      const script = fileURLToPath(new URL(`./${module}.js`, import.meta.url));
      const child = spawn("nsenter", [`--net=/run/netns/${name}`, process.execPath, script, argument], {
        env: { ...process.env, BATON_TEST_PINS: `${process.pid}/${argument}` },
        timeout: 30_000,
        killSignal: "SIGKILL",
      });
      let output = "";
      child.stdout.on("data", (chunk) => {
        output += chunk;
      });
      child.stderr.on("data", (chunk) => {
        output += chunk;
      });
      child.on("error", reject);
      child.on("close", (code, signal) => resolve({ code, signal, output }));
    });
  } finally {
    spawnSync("ip", ["netns", "del", name]);
  }
}
