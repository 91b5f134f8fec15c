import type { HostLoad } from "./load.js";

/** One sample of half a second says little: a burst of a few, the garbage collector. */
const LOAD_MS = 1_000;
/** What a byte costs is a matter of longer: clients read in bursts with seconds between them. */
const COST_MS = 10_000;

/** Exponential averages of a host's load. */
export class SmoothedLoad {
  private at: number;
  private now: HostLoad;
  private slow: { serving: number; egress: number };

  constructor(atMs: number, first: HostLoad) {
    this.at = atMs;
    this.now = first;
    this.slow = { serving: first.serving, egress: first.egress };
  }

  get load(): HostLoad {
    return this.now;
  }

  /** Averages of ten seconds, for the cost of a byte. */
  get usage(): { serving: number; egress: number } {
    return this.slow;
  }

  add(atMs: number, sample: HostLoad): void {
    const elapsed = Math.max(0, atMs - this.at);
    const fast = 1 - Math.exp(-elapsed / LOAD_MS);
    const slow = 1 - Math.exp(-elapsed / COST_MS);
    const { now } = this;
    this.now = {
      ...sample,
      cpu: now.cpu + fast * (sample.cpu - now.cpu),
      waiting: now.waiting + fast * (sample.waiting - now.waiting),
      pressure: now.pressure + fast * (sample.pressure - now.pressure),
      loopDelayMs: now.loopDelayMs + fast * (sample.loopDelayMs - now.loopDelayMs),
      egress: now.egress + fast * (sample.egress - now.egress),
    };
    this.slow = {
      serving: this.slow.serving + slow * (sample.serving - this.slow.serving),
      egress: this.slow.egress + slow * (sample.egress - this.slow.egress),
    };
    this.at = atMs;
  }
}
