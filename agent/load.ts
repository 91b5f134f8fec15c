import { existsSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks";

export interface Load {
  /** Cores used by the host's cgroup since the last sample. */
  cpu: number;
  /** Of those, by this process: what its connections cost, whatever else the host does. */
  workerCpu: number;
  /** PSI "some avg10" of its CPU, percent. */
  pressure: number;
  /** Share of the time since the last sample in which something waited for a core. */
  cpuWaiting: number;
  /** Event-loop delay of this process since the last sample, p99. */
  loopDelayMs: number;
  egressBytesPerSecond: number;
  /** That the host may use. */
  cores: number;
  /** Of its interface; 0: not known. */
  linkBytesPerSecond: number;
}

interface Counters {
  at: number;
  cpuUs: number;
  workerUs: number;
  pressure: number;
  waitingUs: number;
  egress: number;
}

/** Measures this host: its cgroup (which holds all its daemons), this process's event loop, its interface. */
export class LoadMeter {
  private readonly delay: IntervalHistogram = monitorEventLoopDelay({ resolution: 10 });
  private before: Counters;

  /** @param cgroup cgroup2 directory; undefined = the whole machine's CPU is not looked at. */
  constructor(
    private readonly ifname: string,
    private readonly cgroup: string | undefined,
  ) {
    this.delay.enable();
    this.before = this.counters();
  }

  sample(): Load {
    const now = this.counters();
    const seconds = Math.max(0.001, (now.at - this.before.at) / 1000);
    const waited = Math.max(0, now.waitingUs - this.before.waitingUs) / 1e6;
    const load: Load = {
      cpu: Math.max(0, now.cpuUs - this.before.cpuUs) / 1e6 / seconds,
      workerCpu: (now.workerUs - this.before.workerUs) / 1e6 / seconds,
      pressure: now.pressure,
      cpuWaiting: Math.min(1, waited / seconds),
      loopDelayMs: Math.max(0, this.delay.percentile(99) / 1e6 - 10),
      egressBytesPerSecond: Math.max(0, now.egress - this.before.egress) / seconds,
      cores: this.cgroup ? usableCores(this.cgroup, availableParallelism()) : availableParallelism(),
      linkBytesPerSecond: linkSpeed(join("/sys/class/net", this.ifname)),
    };
    this.delay.reset();
    this.before = now;
    return load;
  }

  private counters(): Counters {
    const line = read("/proc/self/net/dev")
      .split("\n")
      .find((text) => text.trimStart().startsWith(`${this.ifname}:`));
    const [, pressure, waitingUs] = /^some avg10=([\d.]+) .*total=(\d+)/m.exec(this.group("cpu.pressure")) ?? [];
    const fields = line?.split(":")[1]?.trim().split(/\s+/) ?? [];
    const { user, system } = process.cpuUsage();
    return {
      at: performance.now(),
      workerUs: user + system,
      pressure: Number(pressure ?? 0),
      waitingUs: Number(waitingUs ?? 0),
      cpuUs: Number(/^usage_usec (\d+)/m.exec(this.group("cpu.stat"))?.[1] ?? 0),
      egress: Number(fields[8] ?? 0),
    };
  }

  private group(file: string): string {
    return this.cgroup ? read(join(this.cgroup, file)) : "";
  }
}

/** What `cpu.max` of a cgroup and of those above it leaves of the machine's cores. */
export function usableCores(cgroup: string, machine: number): number {
  let cores = machine;
  // The root of the hierarchy has no cpu.max, and no more has a group without the controller.
  for (let group = cgroup; group !== dirname(group); group = dirname(group)) {
    const [quota, period] = read(join(group, "cpu.max")).trim().split(" ").map(Number);
    if (quota !== undefined && period !== undefined && quota > 0 && period > 0) cores = Math.min(cores, quota / period);
  }
  return cores;
}

/** @param link its directory in sysfs. Only a real device's speed is one: a veth says 10 Gbit/s whatever it does. */
export function linkSpeed(link: string): number {
  if (!existsSync(join(link, "device"))) return 0;
  return Math.max(0, Number(read(join(link, "speed"))) || 0) * (1e6 / 8); // -1: not known, or no carrier
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // a kernel without it: the value is 0
  }
}
