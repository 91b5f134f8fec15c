import { LeaseHolder, type LeaseMapValue, type LeaseOptions } from "../../../agent/supervisor/lease.js";
import { BatonError } from "../../../proto/errors.js";
import { ConflictError, type Lease } from "../../../proto/store/index.js";

interface Event {
  at: number;
  order: number;
  run: () => void;
}

const ms = 1_000_000;

/** How one put fares: times in ms; an answer that is lost is never delivered. */
export interface Fate {
  there: number;
  back: number;
  lost: boolean;
}

/**
 * A clock, a store with one key and a process that can stand still, all simulated. What concerns the process (timers,
 * answers) waits while it is stopped; what it has sent travels on.
 */
export class World {
  now = 0; // nanoseconds
  connected = true;
  /** While false the store answers nothing; what arrives meanwhile is lost. */
  storeUp = true;
  fate: () => Fate = () => ({ there: 0.2, back: 0.2, lost: false });
  document: { lease: Lease; revision: number } | undefined;
  readonly history: Array<{ lease: Lease; revision: number; at: number }> = [];
  readonly writes: Array<LeaseMapValue & { at: number }> = [];
  readonly said: string[] = [];
  onStored: (entry: { lease: Lease; revision: number }) => void = () => {};
  onWrite: (value: LeaseMapValue) => void = () => {};
  #queue: Event[] = [];
  #order = 0;
  #revision = 0;
  #stoppedUntil = 0;
  readonly deadlineMs = 1_000;

  at(delayMs: number, run: () => void): () => void {
    const event = { at: this.now + Math.max(0, delayMs) * ms, order: this.#order++, run };
    this.#queue.push(event);
    return () => {
      event.run = () => {};
    };
  }

  /** As `at`, but it happens inside the process: later, if that is stopped. */
  inside(delayMs: number, run: () => void): () => void {
    let cancelled = false;
    const attempt = () => {
      if (cancelled) return;
      if (this.now < this.#stoppedUntil) this.at((this.#stoppedUntil - this.now) / ms, attempt);
      else run();
    };
    this.at(delayMs, attempt);
    return () => {
      cancelled = true;
    };
  }

  stopProcess(forMs: number): void {
    this.#stoppedUntil = Math.max(this.#stoppedUntil, this.now + forMs * ms);
  }

  async run(forMs: number): Promise<void> {
    const end = this.now + forMs * ms;
    for (;;) {
      this.#queue.sort((a, b) => a.at - b.at || a.order - b.order);
      const next = this.#queue[0];
      if (next === undefined || next.at > end) break;
      this.#queue.shift();
      this.now = Math.max(this.now, next.at);
      next.run();
      for (let i = 0; i < 12; i++) await Promise.resolve();
    }
    this.now = end;
  }

  /** The store's compare-and-set, at this instant. @returns the revision, undefined when it lost */
  set(lease: Lease, expected: number): number | undefined {
    if ((this.document?.revision ?? 0) !== expected) return undefined;
    this.document = { lease, revision: ++this.#revision };
    this.history.push({ ...this.document, at: this.now });
    this.onStored(this.document);
    return this.#revision;
  }

  put(lease: Lease, expected: number): Promise<number> {
    const { there, back, lost } = this.fate();
    return new Promise((resolve, reject) => {
      const giveUp = this.inside(this.deadlineMs, () => reject(new BatonError("STORE_UNAVAILABLE", "no answer")));
      this.at(there, () => {
        if (!this.storeUp) return;
        const revision = this.set(lease, expected);
        const present = this.document;
        if (lost) return;
        this.inside(back, () => {
          giveUp();
          if (revision !== undefined) resolve(revision);
          else reject(new ConflictError("leases/s1", expected, this.#present(present)));
        });
      });
    });
  }

  #present(document: { lease: Lease; revision: number } | undefined) {
    const bytes = document === undefined ? new Uint8Array(0) : Buffer.from(JSON.stringify(document.lease));
    return { revision: document?.revision ?? 0, bytes, removed: false, messageId: "" };
  }

  holder(options: Partial<LeaseOptions> = {}): LeaseHolder {
    return new LeaseHolder(
      { server: "s1", boot: "here", durationMs: 100, renewMs: 25, incarnationFloor: 0, ...options },
      {
        nowNs: () => BigInt(Math.round(this.now)),
        put: (lease, expected) => this.put(lease, expected),
        read: () =>
          new Promise((resolve, reject) => {
            this.inside(0.4, () => {
              if (this.storeUp) resolve(this.document ?? { lease: undefined, revision: 0 });
              else reject(new BatonError("STORE_UNAVAILABLE", "no answer"));
            });
          }),
        connected: () => this.connected,
        write: (value) => {
          this.writes.push({ ...value, at: this.now });
          this.onWrite(value);
        },
        after: (delay, callback) => this.inside(delay, callback),
      },
      {
        onLost: (why) => this.said.push(`lost: ${why}`),
        onStalled: (stalled) => this.said.push(stalled ? "stalled" : "goes on"),
        onUnprotected: (on) => this.said.push(on ? "unprotected" : "protected"),
        onWaiting: (sentence) => this.said.push(sentence),
      },
    );
  }

  /** Whether egress passes now for entries of the map's incarnation. */
  get passes(): boolean {
    const value = this.writes.at(-1);
    return value !== undefined && (value.unfenced || value.untilNs > BigInt(Math.round(this.now)));
  }

  get map(): LeaseMapValue | undefined {
    return this.writes.at(-1);
  }
}
