import { wallClockUs } from "../../../proto/clock.js";

/** What became due while nobody sent: more than that is not caught up with, but sent later. */
const CATCH_UP_US = 2_000_000;

/**
 * How much of a range is due, microseconds from its start. The wall clock is asked once, when a player begins or goes on: from then on whoever
 * sets it neither stops nor rushes media.
 */
export class RangeClock {
  private atMs = 0;
  private atUs = 0;

  /** @param wallUs when the range began, Unix time */
  constructor(private readonly wallUs: number) {
    this.set(this.byWall);
  }

  get elapsedUs(): number {
    return this.atUs + (performance.now() - this.atMs) * 1_000;
  }

  /** Another server, whose clock may be another, had come at least to `reachedUs`. */
  goOn(reachedUs: number): void {
    this.set(Math.min(Math.max(this.byWall, reachedUs), reachedUs + CATCH_UP_US));
  }

  private get byWall(): number {
    return wallClockUs() - this.wallUs;
  }

  private set(elapsedUs: number): void {
    this.atMs = performance.now();
    this.atUs = elapsedUs;
  }
}
