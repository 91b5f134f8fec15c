import { logger } from "../../proto/log.js";
import type { ServiceProblem } from "../../proto/rpc/index.js";
import { Dampener } from "./dampener.js";

const log = logger("health");
const EVERY_MS = 1_000;
/** Between checks while clients have trouble: an outage is certain sooner, and a restart is none yet. */
const DOUBT_MS = 250;
/** A check that takes longer has failed: a file server that hangs is as good as none. */
const DEADLINE_MS = 800;

/** What can be asked how it is: a directory, an upstream. */
export interface Checked {
  name: string;
  /** Rejects with a phrase: "its directory /srv does not exist". */
  health(): Promise<void>;
  /** Calls back whenever something that was asked of it for a client has failed. Missing: that says nothing. */
  onTrouble?(listener: () => void): void;
}

export interface WatchTimes {
  everyMs: number;
  doubtMs: number;
  deadlineMs: number;
}

interface Watched {
  service: Checked;
  dampener: Dampener;
  /** The last failure's. */
  reason: string;
  /** A check has not come back yet; one at a time, however long it hangs. */
  pending: boolean;
  /** It is being checked for a client's trouble. */
  doubted: boolean;
}

/** Checks services every second, sooner where clients have trouble with them, and says which of them cannot be offered. */
export class HealthWatch {
  private readonly watched: Watched[];
  private readonly timer: NodeJS.Timeout;
  private closed = false;

  constructor(
    services: Checked[],
    private readonly times: WatchTimes = { everyMs: EVERY_MS, doubtMs: DOUBT_MS, deadlineMs: DEADLINE_MS },
  ) {
    const fresh = { reason: "", pending: false, doubted: false };
    this.watched = services.map((service) => ({ service, dampener: new Dampener(), ...fresh }));
    for (const one of this.watched) one.service.onTrouble?.(() => void this.doubt(one));
    this.timer = setInterval(() => {
      for (const one of this.watched) void this.check(one);
    }, times.everyMs);
    this.timer.unref();
  }

  /** Services that are not healthy. */
  get unhealthy(): ServiceProblem[] {
    return this.watched.flatMap(({ service, dampener, reason }) =>
      dampener.healthy ? [] : [{ service: service.name, reason }],
    );
  }

  close(): void {
    this.closed = true;
    clearInterval(this.timer);
  }

  /** A client's trouble is no verdict, which the client may have made itself: it is looked at closely until a check passes. */
  private async doubt(one: Watched): Promise<void> {
    if (one.doubted) return;
    one.doubted = true;
    while (!this.closed && one.dampener.healthy && !(await this.check(one))) {
      await new Promise((resolve) => setTimeout(resolve, this.times.doubtMs));
    }
    one.doubted = false;
  }

  /** @returns whether it is well */
  private async check(one: Watched): Promise<boolean> {
    if (one.pending) return this.judge(one, "it does not answer");
    one.pending = true;
    const answer = one.service.health().then(
      () => "",
      (error: Error) => error.message,
    );
    void answer.then(() => {
      one.pending = false;
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<string>((resolve) => {
      timer = setTimeout(resolve, this.times.deadlineMs, `it does not answer within ${this.times.deadlineMs} ms`);
    });
    const reason = await Promise.race([answer, late]);
    clearTimeout(timer);
    return this.judge(one, reason);
  }

  private judge(one: Watched, reason: string): boolean {
    const passed = reason === "";
    if (!passed) one.reason = reason;
    if (!one.dampener.add(passed)) return passed;
    const { healthy } = one.dampener;
    log.warn(
      { service: one.service.name, healthy, reason },
      healthy ? "a service is healthy again" : "a service is not healthy",
    );
    return passed;
  }
}
