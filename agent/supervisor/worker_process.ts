import { type ChildProcess, spawn } from "node:child_process";
import { getPriority } from "node:os";
import { BatonError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import { setNiceness } from "../priority.js";
import { incarnationVariable, type SupervisorMessage, successorVariable, type WorkerMessage } from "./messages.js";

const NICENESS_MODEST = 5;

export interface WorkerOptions {
  command: string;
  arguments: string[];
  /** What it reads on its standard input; missing: nothing. */
  input?: string;
  incarnation: number;
  /** It goes on where another agent's worker stops. */
  successor?: boolean;
  /** A worker whose event loop was not heard of for this long is killed. */
  silentMsMax: number;
  /**
   * The same until it serves, or is prepared to: it has nothing to lose yet, and a busy machine is not helped by a worker that begins
   * again and again.
   */
  startMsMax: number;
  /**
   * For so long, or until it raises itself, it stands behind everybody else: others are taking its predecessor's connections over at this moment, and
   * soon will have. Longer, and a busy machine would never let it serve. Missing: it does not.
   */
  modestMs?: number;
  /** Calls back once when the process ends; by pidfd, so earlier than the event of its parent. */
  watchProcess(pid: number, onExit: () => void): { close(): void };
  /** Calls back once when the thread ends. May throw where the kernel cannot tell. */
  watchThread(thread: number, onExit: () => void): { close(): void };
}

const checksASpan = 4;

/** The process that holds the sockets. */
export class WorkerProcess {
  readonly pid: number;
  /**
   * Resolves at the first sign of its end: its canary is gone, up to tens of milliseconds before the process is. From
   * then on it is over, whatever becomes of the rest.
   */
  readonly dying: Promise<void>;
  /** Resolves once, with why, when the process is gone. */
  readonly ended: Promise<string>;
  readonly startedAt = performance.now();
  readonly #child: ChildProcess;
  readonly #watches: Array<{ close(): void }> = [];
  readonly #resolve: (why: string) => void;
  readonly #resolveDying: () => void;
  #monitor: NodeJS.Timeout | undefined;
  #killedFor: string | undefined;
  #gone = false;
  #checks = 0;
  #serves = false;
  readonly #expected = new Map<WorkerMessage["type"], (message: WorkerMessage) => void>();

  /** @throws BatonError INTERNAL if the process cannot be started */
  constructor(options: WorkerOptions) {
    this.#child = spawn(options.command, options.arguments, {
      stdio: ["pipe", "inherit", "inherit", "ipc"],
      // glibc's arenas, one a thread, would keep as much as the connections themselves.
      env: {
        MALLOC_ARENA_MAX: "2",
        ...process.env,
        [incarnationVariable]: String(options.incarnation),
        [successorVariable]: options.successor ? "1" : "",
      },
    });
    let resolve: (why: string) => void = () => {};
    this.ended = new Promise((r) => {
      resolve = r;
    });
    this.#resolve = resolve;
    let resolveDying: () => void = () => {};
    this.dying = new Promise((r) => {
      resolveDying = r;
    });
    this.#resolveDying = resolveDying;
    let failure: Error | undefined;
    this.#child.on("error", (error) => {
      failure ??= error; // of a message to a worker that is gone; its end is told by the rest
    });
    if (this.#child.pid === undefined) {
      throw new BatonError("INTERNAL", `${options.command} cannot be started`, failure);
    }
    this.pid = this.#child.pid;
    if (options.modestMs !== undefined) this.#standBehind(options.modestMs);
    this.#child.stdin?.on("error", () => {}); // of a worker that is gone
    this.#child.stdin?.end(options.input);
    this.#watches.push(options.watchProcess(this.pid, () => this.#end("its process ended")));
    this.#child.once("exit", (code, signal) => this.#end(signal === null ? `exit status ${code}` : `signal ${signal}`));
    this.#child.on("message", (message: WorkerMessage) => {
      if (message.type === "heartbeat") this.#checks = 0;
      else if (message.type === "canary") this.#keepCanary(message.thread, options);
      else {
        if (message.type === "serving") this.#serves = true;
        if (message.type === "serving" || message.type === "prepared") this.#listen(options.silentMsMax);
        this.#expected.get(message.type)?.(message);
      }
    });
    this.#listen(options.startMsMax);
  }

  #standBehind(ms: number): void {
    setNiceness(NICENESS_MODEST, NICENESS_MODEST, this.pid);
    const timer = setTimeout(() => {
      if (this.alive && getPriority(this.pid) === NICENESS_MODEST) setNiceness(0, 0, this.pid);
    }, ms);
    void this.ended.then(() => clearTimeout(timer));
  }

  get alive(): boolean {
    return !this.#gone;
  }

  /** Whether it has said that it does everything that a worker does. */
  get serves(): boolean {
    return this.#serves;
  }

  /** Resolves with the next message of this type. Ask before it can come. */
  next<Type extends WorkerMessage["type"]>(type: Type): Promise<Extract<WorkerMessage, { type: Type }>> {
    return new Promise((resolve) => {
      this.#expected.set(type, (message) => {
        this.#expected.delete(type);
        resolve(message as Extract<WorkerMessage, { type: Type }>);
      });
    });
  }

  tell(message: SupervisorMessage): void {
    if (this.#child.connected) this.#child.send(message, () => {});
  }

  kill(why: string): void {
    if (this.#gone) return;
    this.#killedFor ??= why;
    this.#child.kill("SIGKILL");
  }

  /** It is dying: makes sure that nothing of it stays. */
  finish(): void {
    if (!this.#gone) this.#child.kill("SIGKILL");
  }

  /** Kills it unless it has ended by itself within this time. */
  async endWithin(ms: number, why: string): Promise<void> {
    const timer = setTimeout(() => this.kill(why), ms);
    await this.ended;
    clearTimeout(timer);
  }

  /**
   * Checks are counted, not time: when this process itself stood still, one check passes and then the heartbeats that
   * have waited are read.
   */
  #listen(silentMs: number): void {
    clearInterval(this.#monitor);
    if (this.#gone) return;
    this.#checks = 0;
    this.#monitor = setInterval(() => {
      if (++this.#checks > checksASpan) this.kill(`its event loop was silent for ${silentMs} ms`);
    }, silentMs / checksASpan);
  }

  #keepCanary(thread: number, options: WorkerOptions): void {
    if (this.#gone) return;
    try {
      this.#watches.push(options.watchThread(thread, () => this.#resolveDying()));
    } catch (error) {
      logger("supervisor").warn({ err: error }, "the worker's end will be noticed late: its threads cannot be watched");
    }
  }

  #end(why: string): void {
    if (this.#gone) return;
    this.#gone = true;
    clearInterval(this.#monitor);
    for (const watch of this.#watches) watch.close();
    this.#resolveDying();
    this.#resolve(this.#killedFor === undefined ? why : `killed, because ${this.#killedFor}`);
  }
}
