import { setTimeout as sleep } from "node:timers/promises";
import type { LiveConnection } from "../connection/connection.js";
import type { ConnectionTable } from "../connection/table.js";
import type { Transit } from "../connection/transit.js";
import type { Native } from "../native/api.js";
import { type PassedListener, Passing } from "./passing.js";

/** For what is moved or taken over at this moment to be done. */
const TRANSIT_MS = 10_000;

/** For requests that are being executed and responses that are being made. */
const BUSY_MS = 10_000;
const BUSY_POLL_MS = 20;

/** What the worker that is replaced tells its supervisor. */
export type ReliefMessage =
  /** It goes on: nothing has happened. */
  | { type: "kept"; reason: string }
  /** From now on there is no way back. */
  | { type: "passing" }
  | { type: "passed"; connections: number }
  /** The next worker is gone in the middle of it. */
  | { type: "broken"; reason: string };

export interface Relieved {
  native: Native;
  state: string;
  transit: Transit;
  table: ConnectionTable;
  listeners: readonly PassedListener[];
  /** Everything of this worker ends, in this very call, but for its connections. */
  cease(): void;
  say(message: ReliefMessage): void;
}

/**
 * Lets the next worker go on with everything:
 *
 *   next one is there ─► nothing is moved or taken over here ─► cease ─► passing ─► passed
 *        └──────────────────────┴─ not so, or called off: kept       └ broken: this server is taken over by the others
 */
export class Relief {
  private calledOff = "";

  constructor(private readonly of: Relieved) {}

  /** Never rejects. */
  async run(): Promise<void> {
    const { native, state, transit, table, listeners, say } = this.of;
    let begun = false;
    let passing: Passing;
    try {
      passing = await Passing.begin(native, state);
    } catch (error) {
      say({ type: "kept", reason: (error as Error).message });
      return;
    }
    await this.busyOnes(table);
    await transit.idle(TRANSIT_MS, () => {
      if (this.calledOff) return;
      begun = true;
      say({ type: "passing" });
      this.of.cease();
    });
    try {
      if (!begun) {
        const busy = `${transit.size} connections are being moved or taken over here; try again when that is done`;
        say({ type: "kept", reason: this.calledOff || busy });
        return;
      }
      await passing.passListeners(listeners);
      say({ type: "passed", connections: await passing.passConnections(table) });
    } catch (error) {
      say({ type: "broken", reason: (error as Error).message });
    } finally {
      passing.close();
    }
  }

  /** Who is in the middle of something that nobody could go on with may finish it, while this worker still does all that it does. */
  private async busyOnes(table: ConnectionTable): Promise<void> {
    const busy: LiveConnection[] = [];
    table.each((connection) => connection.unmovable !== "" && busy.push(connection));
    const deadline = performance.now() + BUSY_MS;
    for (const one of busy) {
      while (one.unmovable !== "" && !one.isOver && !this.calledOff && performance.now() < deadline)
        await sleep(BUSY_POLL_MS);
    }
  }

  /** Has no effect once it passes. */
  callOff(reason: string): void {
    this.calledOff ||= reason;
  }
}
