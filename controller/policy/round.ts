import type { Candidate } from "./candidates.js";
import { type HostLoad, indexOf, type LoadIndex, type Others, type Thresholds } from "./load.js";

/** A server's load and what its thresholds are measured against. */
export interface Measured {
  load: HostLoad;
  others: Others;
}

interface Received {
  rate: number;
  count: number;
}

/**
 * One server gives connections away until what is projected suffices; then the next round waits to see what came of it.
 *
 * Relief is guessed generously (CPU, pressure and delay fall with the share of the traffic that goes), so that a round moves
 * little; where something else burns there, the next round moves more.
 */
export class Round {
  private readonly start: LoadIndex;
  private moved: Received = { rate: 0, count: 0 };
  private readonly received = new Map<string, Received>();

  constructor(
    readonly source: string,
    readonly startedAt: number,
    private readonly from: Measured,
    /** Bytes a second of all its connections. */
    private readonly total: number,
    private readonly thresholds: Thresholds,
    /** Cores a byte a second. */
    private readonly costOfByte: number,
  ) {
    this.start = indexOf(from.load, from.others, thresholds);
  }

  get count(): number {
    return this.moved.count;
  }

  /** Whether it is the number of connections that is too much, and not what they do. */
  get byCount(): boolean {
    return this.start.metric === "connections";
  }

  /** The source's index when everything that was decided has happened. */
  projected(): number {
    const { load, others } = this.from;
    const left = this.total > 0 ? Math.max(0, 1 - this.moved.rate / this.total) : 1;
    const after: HostLoad = {
      ...load,
      cpu: load.cpu * left,
      waiting: load.waiting * left,
      pressure: load.pressure * left,
      loopDelayMs: load.loopDelayMs * left,
      egress: Math.max(0, load.egress - this.moved.rate),
      connections: load.connections - this.moved.count,
    };
    return indexOf(after, others, this.thresholds).value;
  }

  /** A target's index with what it was given in this round, and this one more. */
  projectedAt(target: string, { load, others }: Measured, { rate }: Candidate): number {
    const received = this.received.get(target) ?? { rate: 0, count: 0 };
    const more = received.rate + rate;
    const after: HostLoad = {
      ...load,
      cpu: load.cpu + more * this.costOfByte,
      egress: load.egress + more,
      connections: load.connections + received.count + 1,
    };
    return indexOf(after, others, this.thresholds).value;
  }

  move(target: string, { rate }: Candidate): void {
    const { moved } = this;
    const received = this.received.get(target) ?? { rate: 0, count: 0 };
    this.moved = { rate: moved.rate + rate, count: moved.count + 1 };
    this.received.set(target, { rate: received.rate + rate, count: received.count + 1 });
  }
}
