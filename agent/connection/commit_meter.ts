import { logger } from "../../proto/log.js";

/** Thousands of connections may wait for the same store: one of them speaks for all. */
const SAY_EVERY_MS = 1_000;

/** What the commits of this worker take, and what holds them up. */
export class CommitMeter {
  private refusals = 0;
  private unsaid = 0;
  private saidAt = Number.NEGATIVE_INFINITY;

  /** @param observe is told the seconds of each write that was acknowledged. */
  constructor(
    private readonly observe: (seconds: number) => void,
    private readonly log: { warn(what: object, sentence: string): void } = logger("committer"),
  ) {}

  /** Writes that the store did not take and that are tried again. */
  get refused(): number {
    return this.refusals;
  }

  took(ms: number): void {
    this.observe(ms / 1000);
  }

  refuse(connection: string, error: Error): void {
    this.refusals++;
    this.unsaid++;
    const now = performance.now();
    if (now - this.saidAt < SAY_EVERY_MS) return;
    this.log.warn({ connection, refusals: this.unsaid, err: error }, "the store does not take records: tried again");
    this.saidAt = now;
    this.unsaid = 0;
  }
}
