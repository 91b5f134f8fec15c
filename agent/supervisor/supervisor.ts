import { BatonError } from "../../proto/errors.js";
import { writePidFile } from "../../proto/files.js";
import { logger } from "../../proto/log.js";
import type { HeldLease, LeaseHandlers, LeaseHolder } from "./lease.js";
import type { WorkerProcess } from "./worker_process.js";

export interface SupervisorOptions {
  /** Directory for agent.pid. */
  state: string;
  lease(handlers: LeaseHandlers): LeaseHolder;
  startWorker(incarnation: number): WorkerProcess;
  /** For the connections to go elsewhere when the agent is stopped, milliseconds; 0 = they are taken over instead. */
  leaveMsMax: number;
}

/** What another agent's supervisor leaves to this one. */
export interface Inheritance {
  lease: HeldLease;
  /** Has every connection already. */
  worker: WorkerProcess;
  /** It serves, or is dead already: nothing is needed of the other agent any more. */
  relieve(): void;
}

/** The agent that comes next, as seen by the one that is replaced. */
export interface Successor {
  /** Resolves when it is gone. */
  gone: Promise<void>;
  /** There is no way back: connections are on their way. */
  passing(): void;
  inherit(lease: HeldLease): void;
  /** Resolves when nothing is needed of this agent any more. */
  relieved: Promise<void>;
}

type Ending =
  | { kind: "ended" }
  | { kind: "lost"; why: string }
  | { kind: "stop" }
  | { kind: "broken"; why: string }
  | { kind: "handed over" };

const backoffMsMin = 50;
const backoffMsMax = 5_000;
/** A worker that lived this long is not part of a series of failures. */
const provenMs = 5_000;
const fencedMsMax = 1_000;
const stopMsMax = 2_000;
/** From the first connection that is passed to the last; each of them has a deadline of its own. */
const passMsMax = 600_000;
/** For the next agent to serve once it has everything. */
const relieveMsMax = 15_000;

/**
 * Lease first, worker second; when one of them ends, both do, and both begin again under a new incarnation. The old
 * sockets carry the old one, so whatever is left of them stays silent for ever.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #lease: LeaseHolder;
  readonly #stop = new AbortController();
  readonly #stopped = new Promise<Ending>((resolve) => {
    this.#stop.signal.addEventListener("abort", () => resolve({ kind: "stop" }), { once: true });
  });
  readonly #log = logger("supervisor");
  #lost: (ending: Ending) => void = () => {};
  #worker: WorkerProcess | undefined;
  /** Connections are on their way to the next agent: there is no way back, and whoever wants this one to stop waits for it. */
  #passing = false;
  #successor: Successor | undefined;
  #backoffMs = 0;
  #saidAt = Number.NEGATIVE_INFINITY;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#lease = options.lease({
      onLost: (why) => this.#lost({ kind: "lost", why }),
      onStalled: (stalled) => {
        if (stalled) this.#log.warn("the store does not answer: the lease has run out, every connection pauses");
        else this.#log.info("the lease is renewed again, connections go on");
      },
      onUnprotected: (on) => {
        if (on)
          this.#log.error("the store is gone: this server goes on WITHOUT PROTECTION (onStoreLoss: serve-unprotected)");
        else this.#log.info("protected by a lease again");
        this.#worker?.tell({ type: "unprotected", on });
      },
      onWaiting: (sentence) => {
        if (performance.now() - this.#saidAt < 1_000) return;
        this.#saidAt = performance.now();
        this.#log.warn(sentence);
      },
    });
  }

  /**
   * Resolves after `stop()`, when nothing runs any more and the store knows (or did not answer), or when another agent has everything.
   * Throws AGENT_UNAVAILABLE where that one was not heard of again.
   */
  async run(inheritance?: Inheritance): Promise<void> {
    if (inheritance) await this.#goOnWith(inheritance);
    while (!this.#stop.signal.aborted && !this.#successor) {
      const lost = this.#expectLoss();
      const incarnation = await this.#take();
      if (incarnation === undefined) break;
      this.#log.info({ incarnation }, "the lease is taken");
      await this.#serve(incarnation, this.#options.startWorker(incarnation), lost);
      await this.#backOff();
    }
    await this.#lease.fence();
  }

  /** Whether another agent has everything: it is that one's server from then on. */
  get isReplaced(): boolean {
    return this.#successor !== undefined;
  }

  get incarnation(): number {
    return this.#lease.incarnation;
  }

  /** Why another agent cannot take this one's place now; "" = it can. */
  get irreplaceable(): string {
    if (this.#stop.signal.aborted) return "it is being stopped, and its connections go to other servers";
    if (!this.#worker?.serves) return "its worker does not serve yet";
    if (this.#passing) return "another agent is taking its place already";
    return this.#lease.isLive ? "" : "its lease is not renewed: the store does not answer";
  }

  /**
   * Passes every connection to another agent, which is prepared, and then the lease. Resolves when that one has it. Throws where this one
   * goes on as before (AGENT_UNAVAILABLE), and where it failed half-way: then everything is fenced, as when a worker dies.
   */
  async handOver(successor: Successor): Promise<void> {
    const worker = this.#worker;
    const why = this.irreplaceable;
    if (why !== "" || !worker) throw new BatonError("AGENT_UNAVAILABLE", why);
    const [kept, passing, passed, broken] = [
      worker.next("kept"),
      worker.next("passing"),
      worker.next("passed"),
      worker.next("broken"),
    ] as const;
    const dead = worker.dying.then(() => ({ reason: "its worker has died" }));
    void successor.gone.then(() => worker.tell({ type: "keep", reason: "the agent that was to replace it is gone" }));
    void this.#stopped.then(() => worker.tell({ type: "keep", reason: "it is being stopped" }));
    worker.tell({ type: "pass" });
    const refusal = await Promise.race([passing.then(() => undefined), kept, dead]);
    if (refusal) throw new BatonError("AGENT_UNAVAILABLE", refusal.reason);

    this.#passing = true;
    successor.passing();
    try {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<{ reason: string }>((resolve) => {
        timer = setTimeout(resolve, passMsMax, { reason: `not every connection was passed in ${passMsMax} ms` });
      });
      const gone = successor.gone.then(() => ({ reason: "the agent that was to replace it is gone" }));
      const outcome = await Promise.race([passed, broken, gone, late, dead]);
      clearTimeout(timer);
      const lease = "reason" in outcome ? undefined : this.#lease.release();
      if (!lease) {
        const reason = "reason" in outcome ? outcome.reason : "its lease is lost";
        this.#lost({ kind: "broken", why: reason });
        throw new BatonError("AGENT_UNAVAILABLE", reason);
      }
      this.#successor = successor;
      successor.inherit(lease);
      this.#lost({ kind: "handed over" });
      this.#log.info(outcome, "the next agent has the connections and the lease");
    } finally {
      this.#passing = false;
    }
  }

  #expectLoss(): Promise<Ending> {
    return new Promise((resolve) => {
      this.#lost = resolve;
    });
  }

  async #goOnWith({ lease, worker, relieve }: Inheritance): Promise<void> {
    const lost = this.#expectLoss();
    this.#lease.inherit(lease);
    const { incarnation } = lease;
    this.#log.info({ incarnation }, "the lease is inherited");
    void Promise.race([worker.next("serving"), worker.dying]).then(relieve);
    worker.tell({ type: "serve" });
    await this.#serve(incarnation, worker, lost);
    await this.#backOff();
  }

  stop(): void {
    this.#stop.abort();
  }

  async #take(): Promise<number | undefined> {
    try {
      const incarnation = await this.#lease.take(this.#stop.signal);
      return this.#stop.signal.aborted ? undefined : incarnation;
    } catch (error) {
      if (error instanceof BatonError && error.code === "LEASE_LOST") return undefined;
      throw error;
    }
  }

  async #serve(incarnation: number, worker: WorkerProcess, lost: Promise<Ending>): Promise<void> {
    this.#worker = worker;
    writePidFile(this.#options.state, "agent", worker.pid);
    this.#log.info({ incarnation, worker: worker.pid }, "the worker runs");
    const dying = worker.dying.then((): Ending => ({ kind: "ended" }));
    let ending = await Promise.race([dying, lost, this.#stopped]);
    if (ending.kind === "stop" && this.#passing) ending = await Promise.race([dying, lost]);
    if (ending.kind === "stop") ending = await this.#leave(worker, [dying, lost]);
    if (this.#successor) return this.#retire(worker, this.#successor);

    const fenced = this.#lease.fence(); // before anything else: from here on nothing leaves
    if (ending.kind === "ended") {
      worker.finish();
      const why = await worker.ended;
      this.#log.error({ incarnation, worker: worker.pid, why }, "the worker is gone; fenced");
    } else if (ending.kind === "lost" || ending.kind === "broken") {
      const what = ending.kind === "lost" ? "the lease is lost" : "the replacement failed half-way";
      this.#log.error({ incarnation, why: ending.why }, `${what}; fenced, the worker closes its connections`);
      worker.tell({ type: "fenced", reason: ending.why });
      await worker.endWithin(fencedMsMax, `it did not end when it was fenced: ${what}`);
    } else {
      this.#log.info({ incarnation }, "stopping; fenced");
      worker.tell({ type: "stop" });
      await worker.endWithin(stopMsMax, "it did not end when it was told to stop");
    }
    await fenced;
    this.#worker = undefined;
    const short = ending.kind === "ended" && performance.now() - worker.startedAt < provenMs;
    this.#backoffMs = short ? Math.min(backoffMsMax, Math.max(backoffMsMin, this.#backoffMs * 2)) : 0;
  }

  /** Nothing of this agent is needed any more once the next one serves. */
  async #retire(worker: WorkerProcess, successor: Successor): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(resolve, relieveMsMax, false);
    });
    const gone = successor.gone.then(() => false);
    const relieved = await Promise.race([successor.relieved.then(() => true), gone, late]);
    clearTimeout(timer);
    worker.tell({ type: "retire" });
    await worker.endWithin(stopMsMax, "it did not end when it had passed everything");
    this.#worker = undefined;
    if (!relieved) {
      throw new BatonError("AGENT_UNAVAILABLE", "The agent that has taken this one's place was not heard of again.");
    }
  }

  /** The lease goes on while the worker's connections go elsewhere, for so long and no longer. */
  async #leave(worker: WorkerProcess, ends: Array<Promise<Ending>>): Promise<Ending> {
    const { leaveMsMax } = this.#options;
    if (leaveMsMax === 0) return { kind: "stop" };
    this.#log.info({ ms: leaveMsMax }, "stopping: the connections go to other servers first");
    const left = worker.next("left").then((): Ending => ({ kind: "stop" }));
    worker.tell({ type: "leave" });
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<Ending>((resolve) => {
      timer = setTimeout(resolve, leaveMsMax, { kind: "stop" });
    });
    const ending = await Promise.race([left, over, ...ends]);
    clearTimeout(timer);
    return ending;
  }

  async #backOff(): Promise<void> {
    if (this.#backoffMs === 0 || this.#stop.signal.aborted) return;
    this.#log.warn({ ms: this.#backoffMs }, "the worker did not live long; waiting before the next one");
    let timer: NodeJS.Timeout | undefined;
    const waited = new Promise((resolve) => {
      timer = setTimeout(resolve, this.#backoffMs);
    });
    await Promise.race([waited, this.#stopped]);
    clearTimeout(timer);
  }
}
