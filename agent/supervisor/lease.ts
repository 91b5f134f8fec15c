import { BatonError } from "../../proto/errors.js";
import { ConflictError, decodeLease, type Lease } from "../../proto/store/index.js";

/** What the guard's lease map shall say. Egress passes before `untilNs` and for entries of `incarnation` only. */
export interface LeaseMapValue {
  /** CLOCK_MONOTONIC; 0 = fenced. */
  untilNs: bigint;
  incarnation: number;
  /** Time is not looked at: policy serve-unprotected while the store is gone. */
  unfenced: boolean;
}

/** Everything outside of the state machine. */
export interface LeasePorts {
  nowNs(): bigint;
  /** Compare-and-set of this server's key. Rejects with ConflictError, or STORE_UNAVAILABLE when the outcome is unknown. */
  put(lease: Lease, expected: number): Promise<number>;
  read(): Promise<{ lease: Lease | undefined; revision: number }>;
  connected(): boolean;
  write(value: LeaseMapValue): void;
  /** Calls back once. @returns what cancels it */
  after(ms: number, callback: () => void): () => void;
}

export interface LeaseOptions {
  server: string;
  boot: string;
  durationMs: number;
  renewMs: number;
  /** Milliseconds without a store after which the server goes on unfenced; undefined = it stalls. */
  unprotectedAfterMs?: number;
  /** The next incarnation is above this one: what the guard's map holds from an earlier life. */
  incarnationFloor: number;
}

export interface LeaseHandlers {
  /** Somebody else wrote the key: the map says fenced already, the worker's sockets must stay silent for ever. */
  onLost(why: string): void;
  /** The lease has run out because the store does not answer (true), or goes on (false). */
  onStalled(stalled: boolean): void;
  /** Policy serve-unprotected has come into force, or has ended. */
  onUnprotected(unprotected: boolean): void;
  /** The lease cannot be taken yet; a sentence. */
  onWaiting(sentence: string): void;
}

/** All that another process needs to hold the lease on under the same incarnation. */
export interface HeldLease {
  incarnation: number;
  revision: number;
  renewal: number;
  /** CLOCK_MONOTONIC: what the map says. */
  untilNs: bigint;
}

type State = "none" | "taking" | "held" | "fencing" | "released";

const nsPerMs = 1_000_000n;
const tickMs = 100;
const retryMs = 100;

/**
 * The right to send, for `durationMs` from the instant at which the last acknowledged renewal was sent.
 *
 *      none ── take, inherit ──► held ── worker died, stop ──► fencing ──► none
 *                                 ├── the key was written by somebody else ──► none (onLost)
 *                                 └── release ──► released: another process of this host holds it, and has the map
 *
 * One renewal is in flight at a time. The map never says later than what the newest acknowledged renewal allows, and
 * says 0 from the first sign of an ending on: an acknowledgement that comes after it changes nothing.
 */
export class LeaseHolder {
  readonly #options: LeaseOptions;
  readonly #ports: LeasePorts;
  readonly #handlers: LeaseHandlers;
  #state: State = "none";
  #incarnation: number;
  #revision = 0;
  #renewal = 0;
  #untilNs = 0n;
  #inFlight: Promise<void> = Promise.resolve();
  #cancelRenewal: () => void = () => {};
  #cancelTick: () => void = () => {};
  #ticksWithoutStore = 0;
  #stalled = false;
  #unprotected = false;

  constructor(options: LeaseOptions, ports: LeasePorts, handlers: LeaseHandlers) {
    this.#options = options;
    this.#ports = ports;
    this.#handlers = handlers;
    this.#incarnation = options.incarnationFloor;
  }

  get state(): State {
    return this.#state;
  }

  get incarnation(): number {
    return this.#incarnation;
  }

  /** Whether it is held at this very moment, by the rules. */
  get isLive(): boolean {
    return this.#state === "held" && !this.#unprotected && this.#ports.nowNs() < this.#untilNs;
  }

  /** Takes the lease under a new incarnation, trying until it has it. @throws BatonError LEASE_LOST when aborted */
  async take(signal: AbortSignal): Promise<number> {
    if (this.#state !== "none") throw new BatonError("INTERNAL", `a lease in state ${this.#state} was to be taken`);
    this.#state = "taking";
    try {
      for (;;) {
        if (signal.aborted) throw new BatonError("LEASE_LOST", `${this.#options.server} no longer wants its lease`);
        try {
          const present = await this.#ports.read();
          if (await this.#heldElsewhere(present)) continue;
          return await this.#takeOver(present);
        } catch (error) {
          if (error instanceof ConflictError) continue; // somebody was quicker; what is there now decides
          if (!(error instanceof BatonError)) throw error;
          this.#handlers.onWaiting(`the lease of ${this.#options.server} cannot be taken yet: ${error.message}`);
          await this.#sleep(retryMs);
        }
      }
    } finally {
      if (this.#state === "taking") this.#state = "none";
    }
  }

  /**
   * Lets another process of this host hold it: from this call on neither map nor store are written here, whatever the renewal
   * in flight brings. @returns undefined where it is not held
   */
  release(): HeldLease | undefined {
    if (this.#state !== "held" || this.#unprotected) return undefined;
    this.#state = "released";
    this.#cancelRenewal();
    this.#cancelTick();
    return {
      incarnation: this.#incarnation,
      revision: this.#revision,
      renewal: this.#renewal,
      untilNs: this.#untilNs,
    };
  }

  /** Holds on what another process of this host has released, and renews it at once. */
  inherit({ incarnation, revision, renewal, untilNs }: HeldLease): void {
    if (this.#state !== "none") throw new BatonError("INTERNAL", `a lease in state ${this.#state} was to be inherited`);
    this.#incarnation = incarnation;
    this.#revision = revision;
    this.#renewal = renewal;
    this.#untilNs = untilNs;
    this.#state = "held";
    this.#renew();
    this.#tick();
  }

  /**
   * Nothing leaves from this call on; then the store is told. Resolves when it knows, or when it did not answer in time.
   * Harmless in any state.
   */
  async fence(): Promise<void> {
    if (this.#state === "released") return;
    this.#silence();
    if (this.#state !== "held") return;
    this.#state = "fencing";
    await this.#inFlight;
    // The renewal that was in flight may have lost the lease meanwhile, or moved the revision on.
    while (this.#state === "fencing") {
      try {
        await this.#ports.put(this.#document("fenced"), this.#revision);
        break;
      } catch (error) {
        if (!(error instanceof ConflictError) || !this.#adopt(error)) break;
      }
    }
    this.#state = "none";
  }

  /**
   * A lease of another boot is another guard's: its holder is not silenced by our map. It is ours to take only after it
   * was seen unchanged for a whole duration.
   */
  async #heldElsewhere(present: { lease: Lease | undefined; revision: number }): Promise<boolean> {
    if (present.lease?.state !== "alive" || present.lease.boot === this.#options.boot) return false;
    await this.#sleep(this.#options.durationMs + tickMs);
    if ((await this.#ports.read()).revision === present.revision) return false;
    this.#handlers.onWaiting(
      `another machine holds the lease of ${this.#options.server} and renews it: two agents have the same id`,
    );
    await this.#sleep(retryMs);
    return true;
  }

  async #takeOver(present: { lease: Lease | undefined; revision: number }): Promise<number> {
    this.#incarnation = Math.max(present.lease?.incarnation ?? 0, this.#incarnation) + 1;
    this.#renewal = 0;
    this.#untilNs = 0n;
    this.#silence(); // with the new incarnation: whoever reads it in the store knows that the old one is silent
    const sentNs = this.#ports.nowNs();
    this.#revision = await this.#ports.put(this.#document("alive"), present.revision);
    this.#state = "held";
    this.#extend(sentNs);
    this.#schedule(sentNs);
    this.#ticksWithoutStore = 0;
    this.#tick();
    return this.#incarnation;
  }

  #renew(): void {
    if (this.#state !== "held") return;
    const sentNs = this.#ports.nowNs();
    this.#renewal++;
    this.#inFlight = this.#ports.put(this.#document("alive"), this.#revision).then(
      (revision) => {
        this.#revision = revision;
        if (this.#state !== "held") return;
        this.#extend(sentNs);
        this.#schedule(sentNs);
      },
      (error: unknown) => {
        if (this.#state === "released") return;
        if (error instanceof ConflictError && !this.#adopt(error)) this.#lose(error);
        // Else: unknown whether it was written, or an earlier one of ours was. The next one finds out.
        else if (this.#state === "held") this.#cancelRenewal = this.#ports.after(1, () => this.#renew());
      },
    );
  }

  /** Only the holder writes its incarnation as alive: such a document is a renewal of ours whose answer was lost. */
  #adopt(conflict: ConflictError): boolean {
    const present = conflict.present.removed || conflict.present.revision === 0 ? undefined : leaseIn(conflict);
    if (present?.state !== "alive" || present.incarnation !== this.#incarnation) return false;
    if (present.boot !== this.#options.boot) return false;
    this.#revision = conflict.present.revision;
    return true;
  }

  #lose(conflict: ConflictError): void {
    this.#silence();
    const wasHeld = this.#state === "held";
    this.#state = "none";
    if (!wasHeld) return;
    const present = conflict.present.revision === 0 || conflict.present.removed ? undefined : leaseIn(conflict);
    const why = present === undefined ? "it is gone" : `incarnation ${present.incarnation} is ${present.state}`;
    this.#handlers.onLost(`the lease of ${this.#options.server} was written by somebody else: ${why}`);
  }

  #extend(sentNs: bigint): void {
    const untilNs = sentNs + BigInt(this.#options.durationMs) * nsPerMs;
    if (untilNs > this.#untilNs) this.#untilNs = untilNs;
    const wasUnprotected = this.#unprotected;
    this.#unprotected = false;
    this.#ports.write({ untilNs: this.#untilNs, incarnation: this.#incarnation, unfenced: false });
    if (wasUnprotected) this.#handlers.onUnprotected(false);
    if (this.#stalled && this.#ports.nowNs() < this.#untilNs) this.#sayStalled(false);
  }

  #schedule(sentNs: bigint): void {
    const sinceMs = Number(this.#ports.nowNs() - sentNs) / 1e6;
    this.#cancelRenewal = this.#ports.after(Math.max(0, this.#options.renewMs - sinceMs), () => this.#renew());
  }

  /** The map's zero, and no timer that could write anything else. */
  #silence(): void {
    this.#cancelRenewal();
    this.#cancelTick();
    this.#untilNs = 0n;
    this.#ports.write({ untilNs: 0n, incarnation: this.#incarnation, unfenced: false });
    this.#stalled = false;
    if (this.#unprotected) {
      this.#unprotected = false;
      this.#handlers.onUnprotected(false);
    }
  }

  /** Ticks are counted, not time: a process that was stopped for an hour has seen one tick, and asks the store first. */
  #tick(): void {
    this.#cancelTick = this.#ports.after(tickMs, () => this.#tick());
    if (!this.#stalled && !this.#unprotected && this.#ports.nowNs() >= this.#untilNs) this.#sayStalled(true);
    this.#ticksWithoutStore = this.#ports.connected() ? 0 : this.#ticksWithoutStore + 1;
    const { unprotectedAfterMs } = this.#options;
    if (unprotectedAfterMs === undefined || this.#unprotected) return;
    if (this.#ticksWithoutStore * tickMs < unprotectedAfterMs) return;
    this.#unprotected = true;
    this.#stalled = false;
    this.#ports.write({ untilNs: this.#untilNs, incarnation: this.#incarnation, unfenced: true });
    this.#handlers.onUnprotected(true);
  }

  #sayStalled(stalled: boolean): void {
    this.#stalled = stalled;
    this.#handlers.onStalled(stalled);
  }

  #document(state: Lease["state"]): Lease {
    const { server, boot } = this.#options;
    return { server, incarnation: this.#incarnation, state, renewal: this.#renewal, boot };
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.#ports.after(ms, resolve));
  }
}

function leaseIn(conflict: ConflictError): Lease | undefined {
  try {
    return decodeLease(conflict.present.bytes);
  } catch {
    return undefined; // not a lease: somebody else's in any case
  }
}
