import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { BatonError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import type { LeaseHandlers, LeaseHolder } from "./lease.js";
import type { WorkerProcess } from "./worker_process.js";

export interface SupervisorOptions {
  /** Directory for agent.pid. */
  state: string;
  lease(handlers: LeaseHandlers): LeaseHolder;
  startWorker(incarnation: number): WorkerProcess;
  /** For the connections to go elsewhere when the agent is stopped, milliseconds; 0 = they are taken over instead. */
  leaveMsMax: number;
}

type Ending = { kind: "ended" } | { kind: "lost"; why: string } | { kind: "stop" };

const backoffMsMin = 50;
const backoffMsMax = 5_000;
/** A worker that lived this long is not part of a series of failures. */
const provenMs = 5_000;
const fencedMsMax = 1_000;
const stopMsMax = 2_000;

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

  /** Resolves after `stop()`, when nothing runs any more and the store knows (or did not answer). */
  async run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const lost = new Promise<Ending>((resolve) => {
        this.#lost = resolve;
      });
      const incarnation = await this.#take();
      if (incarnation === undefined) break;
      this.#log.info({ incarnation }, "the lease is taken");
      await this.#serve(incarnation, lost);
      await this.#backOff();
    }
    await this.#lease.fence();
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

  async #serve(incarnation: number, lost: Promise<Ending>): Promise<void> {
    const worker = this.#options.startWorker(incarnation);
    this.#worker = worker;
    writeFileSync(join(this.#options.state, "agent.pid"), `${worker.pid}\n`);
    this.#log.info({ incarnation, worker: worker.pid }, "the worker is started");
    const dying = worker.dying.then((): Ending => ({ kind: "ended" }));
    let ending = await Promise.race([dying, lost, this.#stopped]);
    if (ending.kind === "stop") ending = await this.#leave(worker, [dying, lost]);

    const fenced = this.#lease.fence(); // before anything else: from here on nothing leaves
    if (ending.kind === "ended") {
      worker.finish();
      const why = await worker.ended;
      this.#log.error({ incarnation, worker: worker.pid, why }, "the worker is gone; fenced");
    } else if (ending.kind === "lost") {
      this.#log.error({ incarnation, why: ending.why }, "the lease is lost; fenced, the worker closes its connections");
      worker.tell({ type: "fenced", reason: ending.why });
      await worker.endWithin(fencedMsMax, "it did not end after its lease was lost");
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

  /** The lease goes on while the worker's connections go elsewhere, for so long and no longer. */
  async #leave(worker: WorkerProcess, ends: Array<Promise<Ending>>): Promise<Ending> {
    const { leaveMsMax } = this.#options;
    if (leaveMsMax === 0) return { kind: "stop" };
    this.#log.info({ ms: leaveMsMax }, "stopping: the connections go to other servers first");
    worker.tell({ type: "leave" });
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<Ending>((resolve) => {
      timer = setTimeout(resolve, leaveMsMax, { kind: "stop" });
    });
    const left = worker.left.then((): Ending => ({ kind: "stop" }));
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
