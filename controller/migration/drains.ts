import type { EventMessage } from "../../proto/rpc/index.js";
import type { ConnectionIndex } from "../connections/index.js";
import type { Migrations } from "./migrations.js";

/** Moves at a time of one drain. */
const PARALLEL = 24;
const PROGRESS_MS = 250;
/** A connection that did not move is tried again after so long: its digest may be known then, or its target back. */
const AGAIN_MS = 500;

export interface DrainProgress {
  moved: number;
  /** Still there. */
  remaining: number;
  finished: boolean;
  /** Of those that remain, by id, at the end: why. */
  reasons: Record<string, string>;
}

export interface DrainsDeps {
  index: ConnectionIndex;
  migrations: Migrations;
  /** Servers that take connections. */
  targets(): string[];
}

/** Empties servers: moves what can move, waits for the rest, says what remained and why. */
export class Drains {
  private readonly cancelled = new Set<string>();

  constructor(private readonly deps: DrainsDeps) {}

  /** The server is wanted again: a drain of it ends as it is. */
  cancel(server: string): void {
    this.cancelled.add(server);
  }

  /**
   * Progress until nothing is left, the time is over, or it is cancelled. The server gets no new flows meanwhile: the caller saw to it.
   * @param isOver for who cancels in another way than by `cancel`.
   */
  async *drain(server: string, timeoutMs: number, isOver = () => false): AsyncGenerator<DrainProgress> {
    const deadline = performance.now() + timeoutMs;
    const failed = new Map<string, { reason: string; at: number }>();
    const running = new Map<string, Promise<void>>();
    let moved = 0;
    this.cancelled.delete(server);
    const take = async (id: string, to: string) => {
      const event: Pick<EventMessage, "result" | "reason"> = await this.deps.migrations.move(id, to).catch((error) => ({
        result: "failed",
        reason: (error as Error).message,
      }));
      running.delete(id);
      if (event.result === "ok") {
        moved += 1 + this.deps.index.related(id).length;
        failed.delete(id);
      } else failed.set(id, { reason: event.reason, at: performance.now() });
    };
    let saidAt = performance.now();
    for (;;) {
      const present = this.movable(server);
      const cancelled = this.cancelled.has(server) || isOver();
      const over = present.length === 0 || performance.now() > deadline || cancelled;
      if (over && running.size === 0) break;
      const due = over ? [] : present.filter((id) => !running.has(id) && this.isDue(failed.get(id)));
      for (const id of due.slice(0, PARALLEL - running.size)) {
        const to = this.leastLoaded(server, running.size);
        if (to) running.set(id, take(id, to));
        else failed.set(id, { reason: "no other server takes connections", at: performance.now() });
      }
      const pause = new Promise<void>((resolve) => setTimeout(resolve, running.size > 0 ? PROGRESS_MS : 20));
      await Promise.race([pause, ...running.values()]);
      if (performance.now() - saidAt < PROGRESS_MS) continue;
      saidAt = performance.now();
      yield { moved, remaining: this.deps.index.count(server), finished: false, reasons: {} };
    }
    const left = this.movable(server).map((id) => [id, failed.get(id)?.reason ?? "time is over"]);
    const remaining = this.deps.index.count(server);
    yield { moved, remaining, finished: true, reasons: Object.fromEntries(left) };
  }

  /** Related connections go with theirs. */
  private movable(server: string): string[] {
    return [...this.deps.index.entries(server)].flatMap(({ id, isRelated }) => (isRelated ? [] : id));
  }

  private isDue(failure: { at: number } | undefined): boolean {
    return !failure || performance.now() - failure.at > AGAIN_MS;
  }

  /** Where a connection of this server would go now. */
  target(server: string): string | undefined {
    return this.leastLoaded(server, 0);
  }

  /** @param salt spreads moves that begin before the index has seen the ones before. */
  private leastLoaded(from: string, salt: number): string | undefined {
    const targets = this.deps.targets().filter((id) => id !== from);
    const least = Math.min(...targets.map((id) => this.deps.index.count(id)));
    const light = targets.filter((id) => this.deps.index.count(id) <= least + PARALLEL);
    return light[salt % Math.max(1, light.length)];
  }
}
