import type { Candidate } from "../../../controller/policy/candidates.js";
import type { HostLoad, Thresholds } from "../../../controller/policy/load.js";
import {
  type Move,
  OverloadPolicy,
  type OverloadSettings,
  type ServerView,
} from "../../../controller/policy/overload.js";

export const TICK_MS = 500;

export const thresholds: Thresholds = {
  cpu: 0.8,
  cpuLead: 0.3,
  pressure: 30,
  loopDelayMs: 100,
  egress: 100e6,
  connections: 1000,
};

export const settings: OverloadSettings = {
  thresholds,
  lowMark: 0.7,
  sustainedMs: 3_000,
  movesPerSecond: 20,
  restMs: 30_000,
};

export const idle: HostLoad = {
  cpu: 0.05,
  serving: 0.05,
  cores: 2,
  waiting: 0,
  pressure: 5,
  loopDelayMs: 1,
  egress: 0,
  link: 0,
  connections: 0,
};

export interface Host {
  /** Cores that something else uses. */
  burnt: number;
  /** Cores a byte a second, in millionths. */
  cost: number;
  gives: boolean;
  takes: boolean;
}

export const host: Host = { burnt: 0, cost: 0.01, gives: true, takes: true };

export interface Made extends Move {
  atMs: number;
}

/** Servers and connections as the policy sees them; a move takes effect at once, and in the load by the next tick. */
export class Cluster {
  readonly policy: OverloadPolicy;
  readonly moves: Made[] = [];
  readonly owners = new Map<string, string>();
  blocked = "";
  now = 0;
  /** In place of what `hosts` says. */
  loadOf: ((id: string) => HostLoad) | undefined;

  constructor(
    readonly hosts: Record<string, Host>,
    readonly rates: Record<string, number>,
    owners: Record<string, string>,
    changed: Partial<OverloadSettings> = {},
  ) {
    this.policy = new OverloadPolicy({ ...settings, ...changed });
    for (const [id, owner] of Object.entries(owners)) this.owners.set(id, owner);
  }

  countOn(server: string): number {
    return [...this.owners.values()].filter((owner) => owner === server).length;
  }

  run(seconds: number): void {
    for (let tick = 0; tick < seconds * (1000 / TICK_MS); tick++) this.tick();
  }

  /** @returns what it moved. */
  tick(): Made[] {
    this.now += TICK_MS;
    this.policy.observe(this.now, this.views());
    const source = this.policy.giver(this.now, this.blocked);
    if (source === undefined) return [];
    const made = this.policy
      .decide(this.now, source, this.candidates(source), 16)
      .map((move) => ({ ...move, atMs: this.now }));
    for (const { connection, from, to } of made) {
      this.owners.set(connection, to);
      this.policy.moved(from);
    }
    this.moves.push(...made);
    return made;
  }

  private views(): ServerView[] {
    return Object.entries(this.hosts).map(([id, { gives, takes }]) => ({
      ...{ id, gives, takes },
      load: this.loadOf?.(id) ?? this.measured(id),
    }));
  }

  private measured(id: string): HostLoad {
    const { burnt, cost } = this.hosts[id]!;
    const egress = this.candidates(id).reduce((sum, { rate }) => sum + rate, 0);
    const serving = 0.05 + (egress * cost) / 1e6;
    return { ...idle, cpu: Math.min(2, serving + burnt), serving, egress, connections: this.countOn(id) };
  }

  private candidates(server: string): Candidate[] {
    return [...this.owners].flatMap(([id, owner]) =>
      owner === server ? [{ id, rate: this.rates[id] ?? 0, movable: true }] : [],
    );
  }
}

/** `count` connections of one rate on every server: c1s1, c2s1, ... */
export function spread(servers: string[], count: number, rate: number) {
  const owners: Record<string, string> = {};
  const rates: Record<string, number> = {};
  for (const server of servers) {
    for (let i = 1; i <= count; i++) {
      owners[`c${i}${server}`] = server;
      rates[`c${i}${server}`] = rate;
    }
  }
  return { owners, rates };
}
