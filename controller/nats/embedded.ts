import { type ChildProcess, spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { BatonError } from "../../proto/errors.js";
import { writeAtomically } from "../../proto/files.js";
import { logger } from "../../proto/log.js";
import { realtimeCommand } from "../realtime.js";
import { findProgram, fromPidFile, identify, isAlive, type ProcessIdentity } from "./process.js";
import { isListening, isReady } from "./ready.js";
import { natsSettings } from "./settings.js";

const log = logger("nats");
const program = "nats-server";

/** How often an adopted server is looked at: its end is not told to us, since it is nobody's child. */
const pollMs = 20;
const readyDeadlineMs = 15_000;
const stopDeadlineMs = 5_000;
/** Between restarts of a server that does not live long. */
const restartMaxMs = 1_000;

export interface EmbeddedNatsOptions {
  /** The controller's state directory: gets nats.pid, nats.log and nats/. */
  state: string;
  /** Name of the server, unique in the cluster. */
  name: string;
  /** ADDRESS:PORT */
  listen: string;
  /** Largest message, bytes. */
  maxPayload: number;
  /** Path or name of the program. */
  program?: string;
}

interface Events {
  /** The server ended and is being started again. */
  died: [];
  /** It is there again. */
  ready: [];
}

/**
 * A nats-server of our own, in a session of its own and with its store on disk, so that it outlives the controller. A
 * controller that is started again adopts it. When it dies it is started at once.
 */
export class EmbeddedNats extends EventEmitter<Events> {
  readonly #options: EmbeddedNatsOptions;
  readonly #settingsFile: string;
  readonly #pidFile: string;
  #process: ProcessIdentity | undefined;
  #poll: NodeJS.Timeout | undefined;
  #restart: NodeJS.Timeout | undefined;
  #startedAt = 0;
  #backoffMs = 0;
  #closed = false;
  #problem: string | undefined = "the embedded nats-server is starting";

  private constructor(options: EmbeddedNatsOptions) {
    super();
    this.#options = options;
    this.#settingsFile = join(options.state, "nats", "nats.conf");
    this.#pidFile = join(options.state, "nats.pid");
  }

  /**
   * Starts or adopts the server and waits until its JetStream answers. Throws PORT_TAKEN when something else listens
   * there, STORE_UNAVAILABLE when nats-server is not installed or does not come up.
   */
  static async start(options: EmbeddedNatsOptions): Promise<EmbeddedNats> {
    const nats = new EmbeddedNats(options);
    try {
      await nats.#begin();
    } catch (error) {
      nats.close();
      throw error;
    }
    return nats;
  }

  /** undefined while there is none. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** What is wrong, as a sentence without its stop; undefined while the server is there. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Stops looking after the server, which goes on. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#poll);
    clearTimeout(this.#restart);
  }

  /** Ends the server, waits until it is gone, and looks after it no longer. */
  async stop(): Promise<void> {
    this.close();
    if (this.#process) await end(this.#process);
    this.#process = undefined;
  }

  async #begin(): Promise<void> {
    const { state, name, listen, maxPayload } = this.#options;
    mkdirSync(join(state, "nats"), { recursive: true });
    const settings = natsSettings({ name, listen, maxPayload, store: join(state, "nats", "store") });
    const former = existsSync(this.#settingsFile) ? readFileSync(this.#settingsFile, "utf8") : "";
    const running = fromPidFile(this.#pidFile, program, this.#settingsFile);
    if (running && former === settings) {
      log.info({ pid: running.pid }, "adopted the running nats-server");
      this.#watch(running);
    } else {
      if (running) {
        log.info({ pid: running.pid }, "settings changed: the nats-server is started anew");
        await end(running);
      }
      if (await isListening(listen)) {
        throw new BatonError("PORT_TAKEN", `The embedded nats-server cannot listen on ${listen}: it is in use.`);
      }
      writeAtomically(this.#settingsFile, settings);
      await this.#spawn();
    }
    await this.#untilReady();
  }

  /** Throws STORE_UNAVAILABLE when the program cannot be run. */
  async #spawn(): Promise<void> {
    // Looked for here: what would start it at real-time priority does not say which of the two programs is missing.
    const found = findProgram(this.#options.program ?? program);
    if (!found) {
      throw new BatonError(
        "STORE_UNAVAILABLE",
        "The embedded nats-server cannot be started: nats-server is not installed.",
      );
    }
    const output = openSync(join(this.#options.state, "nats.log"), "a");
    let child: ChildProcess;
    try {
      const [command, ...words] = realtimeCommand([found, "--config", this.#settingsFile]);
      child = spawn(command, words, {
        detached: true, // setsid: no signal to our process group reaches it
        stdio: ["ignore", output, output],
        cwd: "/",
      });
    } finally {
      closeSync(output);
    }
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", (error: NodeJS.ErrnoException) => {
        const why = `it cannot be run (${error.code})`;
        reject(new BatonError("STORE_UNAVAILABLE", `The embedded nats-server cannot be started: ${why}.`, error));
      });
    });
    child.unref();
    const pid = child.pid ?? 0;
    writeAtomically(this.#pidFile, `${pid}\n`);
    const started = identify(pid);
    child.once("exit", () => this.#died(pid));
    this.#startedAt = performance.now();
    this.#process = started;
    if (!started) this.#died(pid);
  }

  /** For a server that is not our child. */
  #watch(process: ProcessIdentity): void {
    this.#process = process;
    this.#startedAt = performance.now();
    this.#poll = setInterval(() => {
      if (isAlive(process)) return;
      clearInterval(this.#poll);
      this.#died(process.pid);
    }, pollMs);
  }

  #died(pid: number): void {
    if (this.#process && this.#process.pid !== pid) return;
    this.#process = undefined;
    if (this.#closed || this.#problem !== undefined) return; // at the start, #untilReady reports it
    this.#problem = "the embedded nats-server died and is being started again";
    log.error({ pid, said: this.#lastWords() }, "the nats-server died");
    this.emit("died");
    this.#scheduleRestart();
  }

  #scheduleRestart(): void {
    if (this.#closed) return;
    // At once after a long life; ever later when it dies right away, for instance because the disk is full.
    const livedMs = performance.now() - this.#startedAt;
    this.#backoffMs = livedMs > 5_000 ? 0 : Math.min(restartMaxMs, Math.max(20, this.#backoffMs * 2));
    this.#restart = setTimeout(() => void this.#again(), livedMs > 5_000 ? 0 : this.#backoffMs);
  }

  async #again(): Promise<void> {
    try {
      await this.#spawn();
      await this.#untilReady();
      if (this.#closed) return;
      log.info({ pid: this.pid, afterMs: Math.round(performance.now() - this.#startedAt) }, "the nats-server is back");
      this.emit("ready");
    } catch (error) {
      if (this.#closed) return;
      this.#problem = (error as Error).message.replace(/\.$/, "");
      log.error({ err: error }, "the nats-server cannot be started again yet");
      if (this.#process) await end(this.#process); // it lives but does not answer
      this.#process = undefined;
      this.#scheduleRestart();
    }
  }

  async #untilReady(): Promise<void> {
    const deadline = performance.now() + readyDeadlineMs;
    const { listen } = this.#options;
    while (!(await isReady(listen))) {
      if (this.#closed) return;
      if (!this.#process) {
        throw new BatonError("STORE_UNAVAILABLE", `The embedded nats-server ended at its start: ${this.#lastWords()}`);
      }
      if (performance.now() > deadline) {
        const seconds = readyDeadlineMs / 1000;
        throw new BatonError(
          "STORE_UNAVAILABLE",
          `The embedded nats-server on ${listen} is not ready after ${seconds} s.`,
        );
      }
      await sleep(10);
    }
    this.#problem = undefined;
    // It may have died between its answer and now.
    if (!this.#process || !isAlive(this.#process)) this.#died(this.#process?.pid ?? 0);
  }

  /** What the server complained about last, as a sentence. */
  #lastWords(): string {
    const file = join(this.#options.state, "nats.log");
    try {
      const lines = readFileSync(file, "utf8").trimEnd().split("\n").slice(-20);
      const complaint = lines.findLast((line) => /\[(FTL|ERR)\]|^nats-server:/.test(line));
      if (complaint) return `${complaint.replace(/^.*\[(FTL|ERR)\] /, "").trim()}.`;
    } catch {
      // No log: the general sentence has to do.
    }
    return `see ${file}.`;
  }
}

async function end(process_: ProcessIdentity): Promise<void> {
  const deadline = performance.now() + stopDeadlineMs;
  signal(process_, "SIGTERM");
  while (isAlive(process_)) {
    if (performance.now() > deadline) signal(process_, "SIGKILL");
    await sleep(10);
  }
}

function signal({ pid }: ProcessIdentity, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // gone already
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
