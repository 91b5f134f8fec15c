import { BatonError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import { type HealthView, judgeHealth } from "./health.js";
import type { Rotation } from "./rotation.js";

const log = logger("health");
/** As often as agents report. */
const TICK_MS = 500;

export interface HealthDeps {
  servers(): Array<Omit<HealthView, "unhealthyMs">>;
  rotation: Rotation;
  /** How many connections the server has. */
  connections(server: string): number;
  /** Moves what can move, and tries the rest again, until nothing is left or `over` says so. */
  empty(server: string, over: () => boolean): Promise<void>;
}

/** Drains servers whose services are not healthy, and puts them back when they are. */
export class HealthDriver {
  private notes = new Map<string, string>();
  private readonly unhealthySince = new Map<string, number>();
  /** Servers that are being emptied. */
  private readonly emptying = new Set<string>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly deps: HealthDeps) {}

  start(): void {
    this.timer = setInterval(() => this.tick(), TICK_MS);
  }

  close(): void {
    clearInterval(this.timer);
  }

  /** Why a server that is not healthy stays in rotation; "" = it is healthy, or it does not. */
  note(server: string): string {
    return this.notes.get(server) ?? "";
  }

  private tick(): void {
    const now = performance.now();
    const servers = this.deps.servers().map((view) => ({ ...view, unhealthyMs: now - this.since(view, now) }));
    const { drain, undrain, notes } = judgeHealth(servers);
    this.notes = notes;
    for (const server of undrain) this.tried(server, () => this.deps.rotation.give(server, "health"));
    for (const { server, reason } of drain) {
      this.tried(server, () => this.deps.rotation.take(server, "health", reason));
    }
    for (const { id } of servers) void this.empty(id);
  }

  private since({ id, unhealthy }: Omit<HealthView, "unhealthyMs">, now: number): number {
    if (unhealthy.length === 0) this.unhealthySince.delete(id);
    else if (!this.unhealthySince.has(id)) this.unhealthySince.set(id, now);
    return this.unhealthySince.get(id) ?? now;
  }

  private async empty(server: string): Promise<void> {
    const over = () => !this.deps.rotation.isHeld(server, "health");
    if (over() || this.emptying.has(server) || this.deps.connections(server) === 0) return;
    this.emptying.add(server);
    await this.deps.empty(server, over).finally(() => this.emptying.delete(server));
  }

  /** A server's state may change between the look and the deed: the next look sees it. */
  private tried(server: string, change: () => void): void {
    try {
      change();
    } catch (error) {
      if (!(error instanceof BatonError)) throw error;
      log.warn({ server, reason: error.message }, "a server's rotation cannot be changed now");
    }
  }
}
