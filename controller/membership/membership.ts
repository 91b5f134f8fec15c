import { EventEmitter } from "node:events";
import { BatonError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import type { Lease, Store } from "../../proto/store/index.js";
import { Detector } from "./detector.js";
import { Slots } from "./slots.js";
import { mayFollow, type ServerState } from "./transitions.js";

export interface Member {
  readonly id: string;
  /** 1 to 1023; 0 until the store has given it one. */
  readonly slot: number;
  /** Grows with each incarnation that joins. */
  readonly generation: number;
  /** Of the lease to which slot and generation belong. */
  readonly incarnation: number;
  readonly state: ServerState;
  /** Why it is in this state; a short sentence without its stop. */
  readonly reason: string;
  /** Milliseconds since its lease was last heard of; undefined = never. */
  readonly leaseAgeMs: number | undefined;
}

export interface MembershipEvents {
  /** Its packets are better kept from now on: state HELD. Followed by `unsuspected` or `fenced`. */
  suspected: [server: string, incarnation: number, reason: string];
  unsuspected: [server: string, incarnation: number, reason: string];
  /**
   * Nothing of this or an earlier incarnation leaves that server any more; `atNs` on CLOCK_MONOTONIC. Once an
   * incarnation, also for what died before this process started. The takeover begins: `takeoverBegan`.
   */
  fenced: [server: string, incarnation: number, reason: string, atNs: bigint];
  /** The lease of this incarnation is held; it is not yet a member. */
  alive: [server: string, incarnation: number];
  /** Lease and session belong to the same incarnation, slot and generation are stored: `admit` it when steering is ready. */
  joining: [member: Member];
  changed: [member: Member, from: ServerState];
}

export interface MembershipOptions {
  store: Store;
  /** Server ids of the configuration, in its order. */
  servers: string[];
  durationMs: number;
  renewMs: number;
  /** Unique a process life. */
  writer: string;
  marginMs?: number;
  /** Whether the slot that this life had is closed for good: its death is no news. Default: no life's is. */
  isClosed?(server: string, incarnation: number): boolean;
}

interface Entry {
  id: string;
  slot: number;
  generation: number;
  incarnation: number;
  state: ServerState;
  reason: string;
  /** State to which a false alarm returns. */
  before: ServerState;
  /** Incarnation of the lease that is held; 0 = none. */
  leased: number;
  /** Incarnation that greeted over gRPC; 0 = none. */
  greeted: number;
  /** A document is being written. */
  storing: boolean;
  /** An operator has taken it out of rotation, until it is put back. */
  drained: boolean;
}

const declareDeadlineMs = 1_000;
const storeRetryMs = 200;

/** Who is in the cluster and in which state. Drives nothing by itself: steering and takeover subscribe. */
export class Membership extends EventEmitter<MembershipEvents> {
  readonly #options: MembershipOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #detector: Detector;
  readonly #slots: Slots;
  readonly #log = logger("membership");
  readonly #watches: Array<{ close(): void }> = [];
  readonly #transitions = new Map<string, number>();
  #counter = 0;
  #illegal = 0;
  #closed = false;

  constructor(options: MembershipOptions) {
    super();
    this.#options = options;
    const { store, durationMs, renewMs, marginMs = 5 } = options;
    for (const id of options.servers) {
      const state = "DOWN" as const;
      const counts = { slot: 0, generation: 0, incarnation: 0, leased: 0, greeted: 0 };
      const flags = { storing: false, drained: false };
      this.#entries.set(id, { id, ...counts, ...flags, state, reason: "never heard of", before: state });
    }
    this.#slots = new Slots(store.servers);
    this.#detector = new Detector(
      { durationMs, renewMs, marginMs },
      {
        nowNs: () => process.hrtime.bigint(),
        put: (lease, expected) => this.#declare(lease, expected),
        barrier: () => store.barrier(),
        after: (ms, callback) => {
          const timer = setTimeout(callback, ms);
          return () => clearTimeout(timer);
        },
      },
      {
        onAlive: (server, incarnation) => this.#alive(server, incarnation),
        onSuspected: (server, incarnation, reason) => this.#suspected(server, incarnation, reason),
        onUnsuspected: (server, incarnation, reason) => this.#unsuspected(server, incarnation, reason),
        onFenced: (server, incarnation, reason, atNs) => this.#fenced(server, incarnation, reason, atNs),
      },
    );
  }

  /** Begins to watch. Subscribe first: what the store holds already is reported as events as well. */
  start(): void {
    const { store } = this.#options;
    // Slots first: a server that is found dead at the start is steered by the slot that it had.
    let known = false;
    this.#watches.push(
      store.servers.watch({
        onDocument: (id, _revision, { slot, generation, incarnation, drained = false }) => {
          const entry = this.#entries.get(id);
          if (entry?.slot === 0) Object.assign(entry, { slot, generation, incarnation });
          if (entry) entry.drained = drained;
        },
        onCaughtUp: () => {
          if (known) return;
          known = true;
          this.#watchLeases();
        },
      }),
    );
  }

  #watchLeases(): void {
    const { store } = this.#options;
    this.#watches.push(
      store.leases.watch({
        onLease: (entry, arrivedNs) => {
          if (this.#entries.has(entry.lease.server)) this.#detector.observe(entry, arrivedNs);
        },
        onRemoved: (server) => this.#detector.removed(server),
        onCaughtUp: () => this.#detector.caughtUp(),
        onInterrupted: () => this.#detector.interrupted(),
      }),
    );
  }

  close(): void {
    this.#closed = true;
    this.#detector.close();
    for (const watch of this.#watches) watch.close();
  }

  /** Every configured server, in the configuration's order. */
  members(): Member[] {
    return [...this.#entries.values()].map((entry) => this.#view(entry));
  }

  member(id: string): Member | undefined {
    const entry = this.#entries.get(id);
    return entry && this.#view(entry);
  }

  /** Sorted ids of servers that can take connections over: lease held, not suspected, session of the same incarnation. */
  heirs(): string[] {
    const able = [...this.#entries.values()].filter(({ id, leased, greeted }) => {
      return leased !== 0 && greeted === leased && this.#detector.isAlive(id);
    });
    return able.map(({ id }) => id).sort();
  }

  /** Whether nothing of this incarnation leaves that server any more. Unknown servers: false. */
  isFenced(server: string, incarnation: number): boolean {
    return this.#detector.isFenced(server, incarnation);
  }

  /** "FROM→TO" to how often; illegal ones, which were ignored, under "illegal". */
  transitions(): Map<string, number> {
    return new Map([...this.#transitions, ["illegal", this.#illegal]]);
  }

  /** An agent's session says who it is. */
  hello(id: string, incarnation: number): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    entry.greeted = incarnation;
    this.#join(entry);
  }

  /** The session is gone. Suspicion only if it was the living incarnation's. */
  goodbye(id: string, incarnation: number, reason: string): void {
    const entry = this.#entries.get(id);
    if (entry?.greeted !== incarnation) return;
    entry.greeted = 0;
    if (entry.leased === incarnation) this.#detector.hint(id, reason);
  }

  /** Something else speaks against a server (its upstream, ...): held until its next renewal, or its end. */
  hint(id: string, reason: string): void {
    this.#detector.hint(id, reason);
  }

  /** Steering is ready for a server that was `joining`. @returns whether it is UP now, or DRAINING where an operator wants that */
  admit(id: string): boolean {
    const entry = this.#entries.get(id);
    if (entry?.state !== "JOINING" || entry.greeted !== entry.incarnation || entry.leased !== entry.incarnation)
      return false;
    return entry.drained
      ? this.#move(entry, "DRAINING", "an operator has drained it")
      : this.#move(entry, "UP", "lease and session are there");
  }

  /** Whether an operator has taken the server out of rotation. */
  isDrained(id: string): boolean {
    return this.#entries.get(id)?.drained ?? false;
  }

  /**
   * Takes down in the store whether an operator has taken the server out of rotation: it is drained again whenever it
   * joins. Changes no state. Throws NOT_FOUND, STORE_UNAVAILABLE.
   */
  async remember(id: string, drained: boolean): Promise<void> {
    const entry = this.#entries.get(id);
    if (!entry) throw new BatonError("NOT_FOUND", `There is no server "${id}".`);
    await this.#slots.remember(id, drained);
    entry.drained = drained;
    if (!drained && entry.state === "HELD" && entry.before === "DRAINING") entry.before = "UP";
  }

  /** It is to get nothing new; where it does not already, only the reason is new. Throws NOT_FOUND, UNSUPPORTED where it is not up. */
  drain(id: string, reason: string): void {
    const entry = this.#entries.get(id);
    if (!entry) throw new BatonError("NOT_FOUND", `There is no server "${id}".`);
    if (entry.state === "DRAINING") {
      entry.reason = reason;
      return;
    }
    if (entry.state !== "UP")
      throw new BatonError("UNSUPPORTED", `${id} is ${entry.state}: only a server that is UP can be drained.`);
    this.#move(entry, "DRAINING", reason);
  }

  /** It gets new connections again. Throws NOT_FOUND, UNSUPPORTED where it is not draining. */
  undrain(id: string): void {
    const entry = this.#entries.get(id);
    if (!entry) throw new BatonError("NOT_FOUND", `There is no server "${id}".`);
    if (entry.state === "UP") return;
    if (entry.state !== "DRAINING") throw new BatonError("UNSUPPORTED", `${id} is ${entry.state}, not DRAINING.`);
    this.#move(entry, "UP", "back in rotation");
  }

  /** The takeover document of a fenced server is written. */
  takeoverBegan(id: string, reason: string): boolean {
    const entry = this.#entries.get(id);
    return entry !== undefined && this.#move(entry, "TAKEOVER", reason);
  }

  /** The fenced server's slot is closed. Its successor, if it is there already, joins. */
  takeoverFinished(id: string, reason: string): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined || (entry.state !== "DOWN" && !this.#move(entry, "DOWN", reason))) return false;
    this.#join(entry);
    return true;
  }

  #alive(id: string, incarnation: number): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    entry.leased = incarnation;
    this.emit("alive", id, incarnation);
    this.#join(entry);
  }

  #suspected(id: string, incarnation: number, reason: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    if (this.#concerns(entry, incarnation)) {
      entry.before = entry.state;
      this.#move(entry, "HELD", reason);
    }
    this.emit("suspected", id, incarnation, reason);
  }

  #unsuspected(id: string, incarnation: number, reason: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    if (entry.state === "HELD" && this.#concerns(entry, incarnation)) this.#move(entry, entry.before, reason);
    this.emit("unsuspected", id, incarnation, reason);
    this.#join(entry);
  }

  #fenced(id: string, incarnation: number, reason: string, atNs: bigint): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    if (entry.leased === incarnation) entry.leased = 0;
    if (entry.state !== "HELD" && this.#isEnd(entry, incarnation)) {
      entry.before = entry.state;
      this.#move(entry, "HELD", reason);
    } else if (entry.state === "HELD") {
      entry.reason = reason;
    } else if (entry.state === "DOWN" && entry.slot > 0) {
      entry.reason = "its connections were taken over";
    }
    this.emit("fenced", id, incarnation, reason, atNs);
  }

  /**
   * Whether the packet path's slot belongs to this incarnation. One that dies before it has a slot, while its
   * predecessor is still being taken over, changes nothing there.
   */
  #concerns(entry: Entry, incarnation: number): boolean {
    if (entry.slot === 0) return false; // it never was a member: no packet was ever sent there, and its successor just joins
    return entry.incarnation === incarnation && entry.state !== "TAKEOVER" && !this.#isClosed(entry);
  }

  /** Whether the slot's life is over with this incarnation: that one, or it ended unseen before this one. */
  #isEnd(entry: Entry, incarnation: number): boolean {
    return entry.slot > 0 && entry.incarnation <= incarnation && entry.state !== "TAKEOVER" && !this.#isClosed(entry);
  }

  #isClosed({ id, incarnation }: Entry): boolean {
    return this.#options.isClosed?.(id, incarnation) ?? false;
  }

  /** DOWN → JOINING once the lease is held, the session is there and the generation is stored. */
  #join(entry: Entry): void {
    if (entry.state === "JOINING" && entry.greeted === entry.incarnation && entry.leased === entry.incarnation) {
      this.emit("joining", this.#view(entry));
      return;
    }
    const { leased } = entry;
    if (entry.state !== "DOWN" || leased === 0 || entry.greeted !== leased || entry.storing || this.#closed) return;
    entry.storing = true;
    this.#slots.claim(entry.id, leased, this.#options.servers).then(
      ({ slot, generation }) => {
        entry.storing = false;
        if (entry.state === "DOWN" && entry.leased === leased && entry.greeted === leased) {
          entry.slot = slot;
          entry.generation = generation;
          entry.incarnation = leased;
          this.#move(entry, "JOINING", "its lease is held");
          this.emit("joining", this.#view(entry));
        } else {
          this.#join(entry);
        }
      },
      (error: unknown) => {
        entry.storing = false;
        if (!(error instanceof BatonError)) throw error;
        this.#log.warn({ server: entry.id, err: error }, "the server's slot cannot be stored yet");
        setTimeout(() => this.#join(entry), storeRetryMs).unref();
      },
    );
  }

  #move(entry: Entry, to: ServerState, reason: string): boolean {
    const from = entry.state;
    if (!mayFollow(from, to)) {
      this.#illegal++;
      this.#log.error({ server: entry.id, from, to, reason }, "a transition that must not happen was ignored");
      return false;
    }
    const name = `${from}→${to}`;
    this.#transitions.set(name, (this.#transitions.get(name) ?? 0) + 1);
    entry.state = to;
    entry.reason = reason;
    this.#log.info({ server: entry.id, from, to, incarnation: entry.incarnation, reason }, "server changed state");
    this.emit("changed", this.#view(entry), from);
    return true;
  }

  #declare(lease: Lease, expected: number): Promise<number> {
    const messageId = `${this.#options.writer}/${++this.#counter}`;
    return this.#options.store.leases.put(lease, expected, { messageId, deadlineMs: declareDeadlineMs });
  }

  #view({ id, slot, generation, incarnation, state, reason }: Entry): Member {
    return { id, slot, generation, incarnation, state, reason, leaseAgeMs: this.#detector.ageMs(id) };
  }
}
