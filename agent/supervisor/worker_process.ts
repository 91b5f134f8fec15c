import { type ChildProcess, spawn } from "node:child_process";
import { BatonError } from "../../proto/errors.js";
import { incarnationVariable, type SupervisorMessage, type WorkerMessage } from "./messages.js";

export interface WorkerOptions {
  command: string;
  arguments: string[];
  incarnation: number;
  /** A worker whose event loop was not heard of for this long is killed. */
  silentMsMax: number;
  /** The same from its start to its first heartbeat. */
  startMsMax: number;
  /** Calls back once when the process ends; by pidfd, so earlier than the event of its parent. */
  watch(pid: number, onExit: () => void): { close(): void };
}

const checksASpan = 4;

/** The process that holds the sockets. */
export class WorkerProcess {
  readonly pid: number;
  /** Resolves once, with why, when the process is gone. */
  readonly ended: Promise<string>;
  readonly startedAt = performance.now();
  readonly #child: ChildProcess;
  readonly #watch: { close(): void } | undefined;
  readonly #resolve: (why: string) => void;
  #monitor: NodeJS.Timeout | undefined;
  #killedFor: string | undefined;
  #gone = false;
  #checks = 0;

  /** @throws BatonError INTERNAL if the process cannot be started */
  constructor(options: WorkerOptions) {
    this.#child = spawn(options.command, options.arguments, {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      env: { ...process.env, [incarnationVariable]: String(options.incarnation) },
    });
    let resolve: (why: string) => void = () => {};
    this.ended = new Promise((r) => {
      resolve = r;
    });
    this.#resolve = resolve;
    let failure: Error | undefined;
    this.#child.on("error", (error) => {
      failure ??= error; // of a message to a worker that is gone; its end is told by the rest
    });
    if (this.#child.pid === undefined) {
      throw new BatonError("INTERNAL", `${options.command} cannot be started`, failure);
    }
    this.pid = this.#child.pid;
    this.#watch = options.watch(this.pid, () => this.#end("its process ended"));
    this.#child.once("exit", (code, signal) => this.#end(signal === null ? `exit status ${code}` : `signal ${signal}`));
    this.#child.on("message", (message: WorkerMessage) => {
      if (message.type === "heartbeat") this.#heard(options.silentMsMax);
    });
    this.#listen(options.startMsMax);
  }

  get alive(): boolean {
    return !this.#gone;
  }

  tell(message: SupervisorMessage): void {
    if (this.#child.connected) this.#child.send(message, () => {});
  }

  kill(why: string): void {
    if (this.#gone) return;
    this.#killedFor ??= why;
    this.#child.kill("SIGKILL");
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
    this.#checks = 0;
    this.#monitor = setInterval(() => {
      if (++this.#checks > checksASpan) this.kill(`its event loop was silent for ${silentMs} ms`);
    }, silentMs / checksASpan);
  }

  #heard(silentMsMax: number): void {
    if (this.#gone) return;
    if (this.#first) {
      this.#first = false;
      this.#listen(silentMsMax);
    }
    this.#checks = 0;
  }
  #first = true;

  #end(why: string): void {
    if (this.#gone) return;
    this.#gone = true;
    clearInterval(this.#monitor);
    this.#watch?.close();
    this.#resolve(this.#killedFor === undefined ? why : `killed, because ${this.#killedFor}`);
  }
}
