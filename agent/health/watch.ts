import { logger } from "../../proto/log.js";
import type { ServiceProblem } from "../../proto/rpc/index.js";
import { Dampener } from "./dampener.js";

const log = logger("health");
const EVERY_MS = 1_000;
/** A check that takes longer has failed: a file server that hangs is as good as none. */
const DEADLINE_MS = 800;

/** What can be asked how it is: a directory now, an upstream as well. */
export interface Checked {
  name: string;
  /** Rejects with a phrase: "its directory /srv does not exist". */
  health(): Promise<void>;
}

export interface WatchTimes {
  everyMs: number;
  deadlineMs: number;
}

interface Watched {
  service: Checked;
  dampener: Dampener;
  /** The last failure's. */
  reason: string;
  /** A check has not come back yet; one at a time, however long it hangs. */
  pending: boolean;
}

/** Checks services every second and says which of them cannot be offered. */
export class HealthWatch {
  private readonly watched: Watched[];
  private readonly timer: NodeJS.Timeout;

  constructor(
    services: Checked[],
    private readonly times: WatchTimes = { everyMs: EVERY_MS, deadlineMs: DEADLINE_MS },
  ) {
    this.watched = services.map((service) => ({ service, dampener: new Dampener(), reason: "", pending: false }));
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
    clearInterval(this.timer);
  }

  private async check(one: Watched): Promise<void> {
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
    this.judge(one, reason);
  }

  private judge(one: Watched, reason: string): void {
    if (reason !== "") one.reason = reason;
    if (!one.dampener.add(reason === "")) return;
    const { healthy } = one.dampener;
    log.warn(
      { service: one.service.name, healthy, reason },
      healthy ? "a service is healthy again" : "a service is not healthy",
    );
  }
}
