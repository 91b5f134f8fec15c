import { logger } from "../../proto/log.js";

/** Thousands of connections may lack the same: one of them speaks for all. */
const SAY_EVERY_MS = 1_000;

interface Log {
  warn(what: object, sentence: string): void;
}

/** What was not done, counted, and said once a second. */
export class Refusals {
  private count = 0;
  private unsaid = 0;
  private saidAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly sentence: string,
    private readonly log: Log,
  ) {}

  get total(): number {
    return this.count;
  }

  add(connection: string, error: Error): void {
    this.count++;
    this.unsaid++;
    const now = performance.now();
    if (now - this.saidAt < SAY_EVERY_MS) return;
    this.log.warn({ connection, refusals: this.unsaid, err: error }, this.sentence);
    this.saidAt = now;
    this.unsaid = 0;
  }
}

/** What the commits of this worker take, and what holds them up. */
export class CommitMeter {
  /** Writes that the store did not take and that are tried again. */
  private readonly writes: Refusals;
  /** Request bodies that the store did not take. */
  readonly spills: Refusals;
  /** Times that the store did not give back what it has of one. */
  readonly replays: Refusals;

  /** @param observe is told the seconds of each write that was acknowledged. */
  constructor(
    private readonly observe: (seconds: number) => void,
    log: Log = logger("committer"),
  ) {
    this.writes = new Refusals("the store does not take records: tried again", log);
    this.spills = new Refusals("the store does not take a request's body: it is kept no longer", log);
    this.replays = new Refusals("the store does not give a request's body back: tried again", log);
  }

  get refused(): number {
    return this.writes.total;
  }

  took(ms: number): void {
    this.observe(ms / 1000);
  }

  refuse(connection: string, error: Error): void {
    this.writes.add(connection, error);
  }
}
