import { Detector } from "../../../controller/membership/detector.js";
import { BatonError } from "../../../proto/errors.js";
import { ConflictError, type Lease } from "../../../proto/store/index.js";

const ms = 1_000_000;

interface Event {
  at: number;
  order: number;
  run: () => void;
}

/** Servers that renew, a store, and a detector that sees it with a delay; the clock is simulated. */
export class Cluster {
  now = 0; // nanoseconds
  readonly said: Array<{ at: number; what: string }> = [];
  readonly detector: Detector;
  /** From the store's change to the detector's view, ms. */
  watchDelayMs = 0.3;
  storeUp = true;
  puts = 0;
  /** Server to the instant until which it sends, nanoseconds: what its guard's map says. */
  readonly sendsUntil = new Map<string, number>();
  readonly violations: string[] = [];
  #leases = new Map<string, { lease: Lease; revision: number }>();
  #renewing = new Map<string, number>();
  #revision = 0;
  #queue: Event[] = [];
  #order = 0;
  #stoppedUntil = 0;
  #inbox: Array<() => void> = [];

  constructor(
    readonly durationMs = 100,
    readonly renewMs = 25,
  ) {
    const note = (what: string) => this.said.push({ at: this.now / ms, what });
    this.detector = new Detector(
      { durationMs, renewMs, marginMs: 5 },
      {
        nowNs: () => BigInt(Math.round(this.now)),
        put: (lease, expected) => this.#declare(lease, expected),
        barrier: () =>
          new Promise((resolve, reject) => {
            if (!this.storeUp) this.at(0.1, () => reject(new BatonError("STORE_UNAVAILABLE", "gone")));
            else this.#deliver(this.watchDelayMs, resolve);
          }),
        after: (delay, callback) => this.#timer(delay, callback),
      },
      {
        onAlive: (server, incarnation) => note(`alive ${server} ${incarnation}`),
        onSuspected: (server, incarnation, reason) => note(`suspected ${server} ${incarnation} ${reason}`),
        onUnsuspected: (server, incarnation, reason) => note(`unsuspected ${server} ${incarnation} ${reason}`),
        onFenced: (server, incarnation, reason, atNs) => {
          note(`fenced ${server} ${incarnation} ${reason}`);
          if (Number(atNs) > this.now) this.violations.push(`${server} fenced in the future`);
          const key = `${server}/${incarnation}`;
          if ((this.sendsUntil.get(key) ?? 0) > this.now)
            this.violations.push(`${key} called fenced while it may send`);
        },
      },
    );
  }

  at(delayMs: number, run: () => void): () => void {
    const event = { at: this.now + Math.max(0, delayMs) * ms, order: this.#order++, run };
    this.#queue.push(event);
    return () => {
      event.run = () => {};
    };
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
      for (let i = 0; i < 8; i++) await Promise.resolve();
    }
    this.now = end;
  }

  /** The controller's process stands still; what is sent to it waits in its socket. */
  stopController(forMs: number): void {
    this.#stoppedUntil = this.now + forMs * ms;
    this.at(forMs, () => {
      // Timers first, then sockets, as libuv has it.
      this.at(0.01, () => {
        const waiting = this.#inbox;
        this.#inbox = [];
        for (const message of waiting) message();
      });
    });
  }

  start(server: string, boot = `host-${server}`): void {
    const previous = this.#leases.get(server)?.lease;
    const lease: Lease = { server, incarnation: (previous?.incarnation ?? 0) + 1, state: "alive", renewal: 0, boot };
    if (previous?.boot === boot) this.sendsUntil.set(`${server}/${previous.incarnation}`, 0);
    this.#write(lease);
    this.#keep(server, lease.incarnation);
  }

  /** Host cut off: no renewal any more, the lease runs out by itself. */
  cut(server: string): void {
    this.#renewing.delete(server);
  }

  /** Its supervisor saw the worker die. */
  fence(server: string): void {
    const present = this.#leases.get(server);
    if (present === undefined) return;
    this.#renewing.delete(server);
    this.sendsUntil.set(`${server}/${present.lease.incarnation}`, 0);
    this.#write({ ...present.lease, state: "fenced" });
  }

  lease(server: string): Lease | undefined {
    return this.#leases.get(server)?.lease;
  }

  /** Renews again under the incarnation it had, if nobody has written the key meanwhile. */
  heal(server: string): void {
    const present = this.#leases.get(server);
    if (present?.lease.state === "alive") this.#keep(server, present.lease.incarnation);
  }

  lines(): string[] {
    return this.said.map(({ what }) => what);
  }

  when(what: string): number {
    const found = this.said.find((entry) => entry.what === what);
    if (found === undefined) throw new Error(`"${what}" was not said, but: ${this.lines().join("; ")}`);
    return found.at;
  }

  #keep(server: string, incarnation: number): void {
    const token = this.#order++;
    this.#renewing.set(server, token);
    const renew = () => {
      if (this.#renewing.get(server) !== token) return;
      this.at(this.renewMs, renew);
      const sent = this.now;
      this.at(0.2, () => {
        const present = this.#leases.get(server);
        if (!this.storeUp || present?.lease.incarnation !== incarnation || present.lease.state !== "alive") return;
        this.#write({ ...present.lease, renewal: present.lease.renewal + 1 });
        this.at(0.2, () => {
          if (this.#renewing.get(server) === token)
            this.sendsUntil.set(`${server}/${incarnation}`, sent + this.durationMs * ms);
        });
      });
    };
    renew();
  }

  #write(lease: Lease): number {
    const entry = { lease, revision: ++this.#revision };
    this.#leases.set(lease.server, entry);
    this.#deliver(this.watchDelayMs, () => this.detector.observe(entry, BigInt(Math.round(this.now))));
    return entry.revision;
  }

  #deliver(delayMs: number, run: () => void): void {
    this.at(delayMs, () => {
      if (this.now < this.#stoppedUntil || this.#inbox.length > 0) this.#inbox.push(run);
      else run();
    });
  }

  #timer(delayMs: number, callback: () => void): () => void {
    let cancelled = false;
    const attempt = () => {
      if (cancelled) return;
      if (this.now < this.#stoppedUntil) this.at((this.#stoppedUntil - this.now) / ms, attempt);
      else callback();
    };
    this.at(delayMs, attempt);
    return () => {
      cancelled = true;
    };
  }

  #declare(lease: Lease, expected: number): Promise<number> {
    this.puts++;
    return new Promise((resolve, reject) => {
      this.at(0.2, () => {
        if (!this.storeUp) {
          this.#timer(1_000, () => reject(new BatonError("STORE_UNAVAILABLE", "no answer")));
          return;
        }
        const present = this.#leases.get(lease.server);
        if (present?.revision === expected) {
          const revision = this.#write(lease);
          this.#deliver(0.2, () => resolve(revision));
          return;
        }
        const bytes = Buffer.from(JSON.stringify(present?.lease ?? null));
        const conflict = { revision: present?.revision ?? 0, bytes, removed: false, messageId: "" };
        this.#deliver(0.6, () => reject(new ConflictError(`leases/${lease.server}`, expected, conflict)));
      });
    });
  }
}
