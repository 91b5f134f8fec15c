import { BatonError } from "../../proto/errors.js";
import { ConflictError, decodeLease, type Lease, type LeaseEntry } from "../../proto/store/index.js";

/** Everything outside of the detector. Times are CLOCK_MONOTONIC nanoseconds. */
export interface DetectorPorts {
  nowNs(): bigint;
  /** Compare-and-set of the lease key; rejects with ConflictError or BatonError (outcome unknown). */
  put(lease: Lease, expected: number): Promise<number>;
  /** Resolves when everything that the store had sent before the question was answered has been observed. */
  barrier(): Promise<void>;
  /** Calls back once. @returns what cancels it */
  after(ms: number, callback: () => void): () => void;
}

export interface DetectorOptions {
  durationMs: number;
  renewMs: number;
  /** What clocks of two machines may differ in over one lease, and a packet may take through the guard. */
  marginMs: number;
}

export interface DetectorHandlers {
  /** The lease is held and renewed; once an incarnation, after an earlier one was reported as fenced. */
  onAlive(server: string, incarnation: number): void;
  /** Perhaps dead: its packets are better kept. Followed by onUnsuspected or onFenced. */
  onSuspected(server: string, incarnation: number, reason: string): void;
  onUnsuspected(server: string, incarnation: number, reason: string): void;
  /** Nothing of this incarnation, or of an earlier one, leaves that server any more. Once an incarnation. */
  onFenced(server: string, incarnation: number, reason: string, atNs: bigint): void;
}

interface Watched {
  lease: Lease;
  revision: number;
  /** Arrival of the latest document, whatever it said. */
  seenNs: bigint;
  /** A renewal was seen to arrive, not only found at the start. */
  fresh: boolean;
  saidAlive: boolean;
  suspicion: string | undefined;
  declaring: boolean;
  /** Silent for good from `atNs` on, told or about to be told. */
  fence: { reason: string; atNs: bigint; told: boolean } | undefined;
  /** What came while an older incarnation's fence was waited for. */
  next: { entry: LeaseEntry; arrivedNs: bigint; fresh: boolean } | undefined;
}

const nsPerMs = 1_000_000n;
const retryMs = 25;

/**
 * Says who is dead, from leases alone.
 *
 *      alive ── no renewal seen for a lease's length ──► suspected ── compare-and-set to "dead" won, and
 *        ▲                                                   │         the last renewal seen has run out ──► fenced
 *        └──────────── renewed after all ◄───────────────────┘
 *
 * A renewal that was seen at T was sent before T, so it ends before T + duration on the holder's clock. The
 * compare-and-set names that renewal's revision, so there is none after it.
 *
 * What must not cause a death: this process standing still (a barrier is asked for before anything is believed), the
 * store being away or just back (two durations of grace), everybody being silent at once (a death needs another server
 * that was heard of later: without one the fault is between the store and all of them, and nobody could take over).
 */
export class Detector {
  readonly #options: DetectorOptions;
  readonly #ports: DetectorPorts;
  readonly #handlers: DetectorHandlers;
  readonly #servers = new Map<string, Watched>();
  /** Since when the view of the leases is complete and live; undefined while it is not. */
  #connectedNs: bigint | undefined;
  #cancelTimer: () => void = () => {};
  #timerAtNs: bigint | undefined;
  #asking = false;
  /** The one server that is held on suspicion alone. */
  #suspect: string | undefined;

  constructor(options: DetectorOptions, ports: DetectorPorts, handlers: DetectorHandlers) {
    this.#options = options;
    this.#ports = ports;
    this.#handlers = handlers;
  }

  /** The latest lease seen of a server. */
  lease(server: string): Lease | undefined {
    return this.#servers.get(server)?.lease;
  }

  /** Milliseconds since the latest document of its lease arrived. */
  ageMs(server: string): number | undefined {
    const watched = this.#servers.get(server);
    return watched && Number(this.#ports.nowNs() - watched.seenNs) / 1e6;
  }

  /** Whether the server holds its lease as far as anybody can tell. */
  isAlive(server: string): boolean {
    const watched = this.#servers.get(server);
    return watched?.saidAlive === true && watched.suspicion === undefined && watched.fence === undefined;
  }

  /** Whether nothing of this incarnation leaves that server any more. */
  isFenced(server: string, incarnation: number): boolean {
    const watched = this.#servers.get(server);
    if (watched === undefined || incarnation > watched.lease.incarnation) return false;
    return incarnation < watched.lease.incarnation || watched.fence?.told === true;
  }

  /** The view is complete from now on. */
  caughtUp(): void {
    this.#connectedNs = this.#ports.nowNs();
    this.#arm();
  }

  /** The view stands still. Suspicion cannot be confirmed without a store, and holding packets for it helps nobody. */
  interrupted(): void {
    this.#connectedNs = undefined;
    for (const [server, watched] of this.#servers) {
      if (watched.suspicion !== undefined && watched.fence === undefined) {
        this.#clear(server, watched, "the store is gone");
      }
    }
  }

  /** A document of the leases bucket, in the order of its revisions. */
  observe(entry: LeaseEntry, arrivedNs: bigint): void {
    const { lease, revision } = entry;
    const watched = this.#servers.get(lease.server);
    if (watched === undefined) {
      const first = this.#adopt(entry, arrivedNs);
      this.#servers.set(lease.server, first);
      this.#interpret(lease.server, first);
      return;
    }
    if (lease.incarnation > (watched.next?.entry.lease ?? watched.lease).incarnation) {
      this.#succeed(watched, entry, arrivedNs); // whatever its revision: a store that lost its disk counts from 1 again
      return;
    }
    if (revision <= (watched.next?.entry ?? watched).revision) return;
    if (watched.next !== undefined) {
      this.#succeed(watched, entry, arrivedNs);
      return;
    }
    watched.lease = lease;
    watched.revision = revision;
    watched.seenNs = arrivedNs;
    watched.fresh = true;
    this.#interpret(lease.server, watched);
  }

  /** The key is gone: nobody can hold it, and the next life will be a new incarnation. */
  removed(server: string): void {
    const watched = this.#servers.get(server);
    if (watched === undefined || watched.fence !== undefined) return;
    this.#awaitFence(server, watched, "lease removed", this.#ports.nowNs());
  }

  /** Something else than the lease speaks against it (its stream closed, ...): held until the next renewal or its end. */
  hint(server: string, reason: string): void {
    const watched = this.#servers.get(server);
    if (watched?.saidAlive !== true || watched.fence !== undefined || watched.suspicion !== undefined) return;
    if (this.#connectedNs === undefined || this.#suspect !== undefined) return;
    this.#hold(server, watched, reason);
  }

  close(): void {
    this.#cancelTimer();
    this.#connectedNs = undefined;
  }

  #adopt(entry: LeaseEntry, arrivedNs: bigint): Watched {
    return {
      lease: entry.lease,
      revision: entry.revision,
      seenNs: arrivedNs,
      fresh: false,
      saidAlive: false,
      suspicion: undefined,
      declaring: false,
      fence: undefined,
      next: undefined,
    };
  }

  /** A later incarnation: the earlier one is over. On the same boot its map says so already, else its time must pass. */
  #succeed(watched: Watched, entry: LeaseEntry, arrivedNs: bigint): void {
    const { server } = entry.lease;
    const fresh = watched.next?.entry.lease.incarnation === entry.lease.incarnation || this.#connectedNs !== undefined;
    watched.next = { entry, arrivedNs, fresh };
    if (watched.fence?.told === true) this.#proceed(server, watched);
    else if (entry.lease.boot === watched.lease.boot) this.#tellFenced(server, watched, "taken anew", arrivedNs);
    else this.#awaitFence(server, watched, "taken anew elsewhere", arrivedNs);
  }

  #proceed(server: string, watched: Watched): void {
    const { next } = watched;
    if (next === undefined) return;
    const adopted = this.#adopt(next.entry, next.arrivedNs);
    adopted.fresh = next.fresh;
    this.#servers.set(server, adopted);
    this.#interpret(server, adopted);
  }

  #interpret(server: string, watched: Watched): void {
    const { lease, seenNs } = watched;
    if (watched.fence !== undefined) return; // nothing brings an incarnation back
    if (lease.state === "fenced") {
      this.#tellFenced(server, watched, "fenced", seenNs);
    } else if (lease.state === "dead") {
      // Ours is told when the put resolves. Another controller's: it was written after the last renewal was sent.
      if (!watched.declaring) this.#awaitFence(server, watched, "lease", seenNs);
    } else {
      if (watched.suspicion !== undefined) this.#clear(server, watched, "renewed");
      if (watched.fresh && !watched.saidAlive) {
        watched.saidAlive = true;
        this.#handlers.onAlive(server, lease.incarnation);
      }
    }
    this.#arm();
  }

  #hold(server: string, watched: Watched, reason: string): void {
    this.#suspect = server;
    watched.suspicion = reason;
    this.#handlers.onSuspected(server, watched.lease.incarnation, reason);
  }

  #clear(server: string, watched: Watched, reason: string): void {
    watched.suspicion = undefined;
    if (this.#suspect === server) this.#suspect = undefined;
    this.#handlers.onUnsuspected(server, watched.lease.incarnation, reason);
  }

  /** Confirmed: from now on it is a matter of time. `lastNs`: its last renewal was sent before this instant. */
  #awaitFence(server: string, watched: Watched, reason: string, lastNs: bigint): void {
    const { durationMs, marginMs } = this.#options;
    if (this.#suspect === server) this.#suspect = undefined;
    watched.fence ??= { reason, atNs: lastNs + BigInt(durationMs + marginMs) * nsPerMs, told: false };
    if (watched.suspicion === undefined) {
      watched.suspicion = reason;
      this.#handlers.onSuspected(server, watched.lease.incarnation, reason);
    }
    this.#arm();
  }

  #tellFenced(server: string, watched: Watched, reason: string, atNs: bigint): void {
    if (this.#suspect === server) this.#suspect = undefined;
    watched.fence = { reason: watched.fence?.reason ?? reason, atNs, told: true };
    this.#handlers.onFenced(server, watched.lease.incarnation, watched.fence.reason, atNs);
    this.#proceed(server, watched);
  }

  /** When something is to be decided about this server next. */
  #dueNs(watched: Watched): bigint | undefined {
    if (watched.fence !== undefined) return watched.fence.told ? undefined : watched.fence.atNs;
    if (this.#connectedNs === undefined || watched.declaring || watched.lease.state !== "alive") return undefined;
    const durationNs = BigInt(this.#options.durationMs) * nsPerMs;
    const silentNs = watched.seenNs + durationNs;
    const graceNs = this.#connectedNs + 2n * durationNs;
    return silentNs > graceNs ? silentNs : graceNs;
  }

  /** One timer, for the server whose turn is next. */
  #arm(notBeforeNs = 0n): void {
    let dueNs: bigint | undefined;
    for (const watched of this.#servers.values()) {
      const at = this.#dueNs(watched);
      if (at !== undefined && (dueNs === undefined || at < dueNs)) dueNs = at;
    }
    if (dueNs !== undefined && dueNs < notBeforeNs) dueNs = notBeforeNs;
    // Renewals only ever move the instant out: the timer that is set finds that out when it fires.
    if (dueNs === undefined || (this.#timerAtNs !== undefined && this.#timerAtNs <= dueNs)) return;
    this.#cancelTimer();
    this.#timerAtNs = dueNs;
    const waitMs = Math.max(0, Number(dueNs - this.#ports.nowNs()) / 1e6);
    this.#cancelTimer = this.#ports.after(waitMs, () => {
      this.#timerAtNs = undefined;
      void this.#judge();
    });
  }

  async #judge(): Promise<void> {
    const nowNs = this.#ports.nowNs();
    for (const [server, watched] of [...this.#servers]) {
      const { fence } = watched;
      if (fence !== undefined && !fence.told && fence.atNs <= nowNs) {
        this.#tellFenced(server, watched, fence.reason, fence.atNs);
      }
    }
    const overdue = this.#overdue();
    // Those that stay undecided for want of another server's life are looked at again a little later.
    const againNs = nowNs + BigInt(Math.ceil(this.#options.renewMs / 2)) * nsPerMs;
    if (!overdue.some((server) => this.#convictable(server))) {
      this.#arm(overdue.length === 0 ? 0n : againNs);
      return;
    }
    if (this.#asking) return;
    // Timers run before sockets are read: renewals may lie there, above all after this process stood still.
    this.#asking = true;
    let answered = false;
    try {
      await this.#ports.barrier();
      answered = true;
    } catch {
      // The connection ended: `interrupted` follows.
    } finally {
      this.#asking = false;
    }
    if (answered) for (const server of this.#overdue()) this.#convict(server);
    this.#arm(againNs);
  }

  #overdue(): string[] {
    const nowNs = this.#ports.nowNs();
    const due: string[] = [];
    for (const [server, watched] of this.#servers) {
      const at = watched.fence === undefined ? this.#dueNs(watched) : undefined;
      if (at !== undefined && at <= nowNs) due.push(server);
    }
    return due.sort();
  }

  #convict(server: string): void {
    const watched = this.#convictable(server);
    if (watched === undefined) return;
    if (watched.suspicion === undefined && this.#suspect === undefined)
      this.#hold(server, watched, "lease not renewed");
    watched.declaring = true;
    const { lease, revision, seenNs } = watched;
    this.#ports.put({ ...lease, state: "dead" }, revision).then(
      (dead) => {
        watched.declaring = false;
        if (watched.fence !== undefined) return;
        watched.lease = { ...lease, state: "dead" };
        watched.revision = Math.max(watched.revision, dead);
        this.#awaitFence(server, watched, "lease", seenNs);
      },
      (error: unknown) => {
        watched.declaring = false;
        if (error instanceof ConflictError) this.#correct(server, error);
        else if (!(error instanceof BatonError)) throw error;
        this.#arm(this.#ports.nowNs() + BigInt(retryMs) * nsPerMs);
      },
    );
  }

  /** What the store holds instead is news that the watch has not brought yet. */
  #correct(server: string, conflict: ConflictError): void {
    const { present } = conflict;
    const nowNs = this.#ports.nowNs();
    if (present.revision === 0 || present.removed) {
      this.removed(server);
      return;
    }
    try {
      this.observe({ lease: decodeLease(present.bytes), revision: present.revision }, nowNs);
    } catch (error) {
      if (!(error instanceof BatonError)) throw error; // not a lease; the watch reports it
    }
  }

  /** Somebody else was heard of clearly later: the store is reachable for servers, and there is an heir. */
  #convictable(server: string): Watched | undefined {
    const watched = this.#servers.get(server);
    if (watched === undefined || watched.fence !== undefined) return undefined;
    const laterNs = watched.seenNs + BigInt(2 * this.#options.renewMs) * nsPerMs;
    for (const [id, other] of this.#servers) {
      if (id === server || other.fence !== undefined || other.lease.state !== "alive") continue;
      if (other.fresh && other.seenNs >= laterNs) return watched;
    }
    return undefined;
  }
}
