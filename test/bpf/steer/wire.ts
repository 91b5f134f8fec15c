import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Steering } from "../../../controller/steering/index.js";
import { root } from "../../../proto/paths.js";
import type { calls } from "./live.js";

export const PINS = "/sys/fs/bpf/baton-test-steer/lb";
export const OWN_MAC = "02:00:00:79:00:01";
const APPLIANCE = "bt-steer-lb";
const FAR = "bt-steer-far";

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "inherit"] });
}

function inNamespace(namespace: string, ...command: string[]): string {
  return execFileSync("nsenter", [`--net=/run/netns/${namespace}`, "--", ...command], { encoding: "utf8" });
}

/**
 *   bt-steer-far                 bt-steer-lb
 *   clients, servers ── veth ── eth0, steer
 */
export function makeWire(): void {
  removeWire();
  mkdirSync(PINS, { recursive: true });
  for (const name of [APPLIANCE, FAR]) {
    ip("netns", "add", name);
    inNamespace(name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1");
  }
  const far = ["peer", "name", "far0", "netns", FAR];
  ip("link", "add", "eth0", "address", OWN_MAC, "netns", APPLIANCE, "type", "veth", ...far);
  ip("-n", APPLIANCE, "address", "add", "10.79.0.1/24", "dev", "eth0");
  ip("-n", APPLIANCE, "link", "set", "eth0", "up");
  ip("-n", FAR, "link", "set", "far0", "up");
  inNamespace(FAR, "ethtool", "-K", "far0", "gro", "on", "tx", "off");
}

export function removeWire(): void {
  Steering.unload(PINS);
  for (const name of [APPLIANCE, FAR]) if (existsSync(`/run/netns/${name}`)) ip("netns", "del", name);
}

/** What `ip` says of the appliance's interface. */
export function interfaceText(): string {
  return inNamespace(APPLIANCE, "ip", "link", "show", "eth0");
}

/** The far end. */
export class Wire {
  private readonly child: ChildProcess;
  private readonly answers: Array<(answer: { frames?: string[] }) => void> = [];

  constructor() {
    const script = `${root}/test/bpf/steer/wire.py`;
    this.child = spawn("nsenter", [`--net=/run/netns/${FAR}`, "--", "python3", script, "far0"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    createInterface({ input: this.child.stdout! }).on("line", (line) => this.answers.shift()?.(JSON.parse(line)));
  }

  private do(line: string): Promise<{ frames?: string[] }> {
    this.child.stdin!.write(`${line}\n`);
    return new Promise((resolve) => this.answers.push(resolve));
  }

  async send(...frames: Buffer[]): Promise<void> {
    await this.do(`send ${frames.map((frame) => frame.toString("hex")).join(" ")}`);
  }

  /** What arrived since the last call: waits until there are `count`, or a while. */
  async frames(count: number): Promise<Buffer[]> {
    const out: Buffer[] = [];
    for (let i = 0; i < 100 && out.length < count; i++) {
      if (i > 0) await sleep(10);
      out.push(...((await this.do("frames")).frames ?? []).map((hex) => Buffer.from(hex, "hex")));
    }
    return out;
  }

  async close(): Promise<void> {
    const gone = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await gone;
  }
}

type Calls = typeof calls;
type Message = {
  id?: number;
  answer?: unknown;
  error?: { code: string; message: string };
  event?: string;
  what?: unknown;
};

/** A steering process that can be killed. */
export class LiveSteering {
  private readonly child: ChildProcess;
  private readonly waiting = new Map<number, (message: Message) => void>();
  private readonly reported: Message[] = [];
  private next = 1;

  constructor() {
    const script = fileURLToPath(new URL("./live.js", import.meta.url));
    this.child = spawn("nsenter", [`--net=/run/netns/${APPLIANCE}`, "--", process.execPath, script], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      serialization: "advanced",
    });
    this.child.on("message", (message: Message) => {
      if (message.id === undefined) this.reported.push(message);
      else this.waiting.get(message.id)?.(message);
    });
  }

  async call<N extends keyof Calls>(name: N, ...args: Parameters<Calls[N]>): Promise<Awaited<ReturnType<Calls[N]>>> {
    const id = this.next++;
    const message = await new Promise<Message>((resolve) => {
      this.waiting.set(id, resolve);
      this.child.send({ id, name, args });
    });
    if (message.error) throw Object.assign(new Error(message.error.message), { code: message.error.code });
    return message.answer as Awaited<ReturnType<Calls[N]>>;
  }

  /** Waits for an event, at most a second, and takes it. */
  async event<T>(name: string): Promise<T | undefined> {
    for (let i = 0; i < 100; i++) {
      const at = this.reported.findIndex(({ event }) => event === name);
      if (at >= 0) return this.reported.splice(at, 1)[0]?.what as T;
      await sleep(10);
    }
    return undefined;
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await gone;
  }
}
