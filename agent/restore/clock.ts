import { wallClockUs } from "../../proto/clock.js";
import type { TcpState } from "../../proto/record.js";
import { add, before, distance } from "../../proto/sequence.js";

/** Added to the dead server's clock: covers what it sent after the record was taken, and hosts whose clocks differ. */
const MARGIN_US = 1_000_000;

/**
 * The timestamp clock that goes on from a dead server's. Probe and rebuilt socket use the same one: the client stores a
 * probe's tsval, and a socket that is behind it would be locked out by PAWS (RFC 7323 section 5).
 */
export class TimestampClock {
  private base: number;
  private readonly perUs: number;

  /** @param startedAtUs when the record's clock was read, Unix time. */
  constructor(
    tcp: Pick<TcpState, "timestampClock" | "timestampUsec">,
    private readonly startedAtUs: number,
    marginUs = MARGIN_US,
  ) {
    this.perUs = tcp.timestampUsec ? 1 : 1 / 1000;
    this.base = add(tcp.timestampClock, Math.round(marginUs * this.perUs));
  }

  now(): number {
    return add(this.base, Math.floor(Math.max(0, wallClockUs() - this.startedAtUs) * this.perUs));
  }

  /** The client has seen `tsval` of this connection: the clock must be past it. */
  passed(tsval: number): void {
    const now = this.now();
    if (before(now, tsval)) this.base = add(this.base, distance(now, tsval) + 1);
  }
}
