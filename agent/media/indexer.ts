import { Worker } from "node:worker_threads";
import { BatonError } from "../../proto/errors.js";
import { MediaError } from "./error.js";
import type { IndexAnswer, IndexRequest } from "./indexing_thread.js";
import type { Movie } from "./movie.js";
import { fromPortable } from "./portable_movie.js";

/** Films that wait for their index; more are turned away. */
const WAITING_MAX = 1_024;
/** One film's; a million samples take a second or two of a core. */
const TIME_MS = 30_000;
/** The thread's; films within the bounds of `readMovie` need some 100. */
const HEAP_MB = 256;
/** Without anything to do the thread ends. */
const IDLE_MS = 10_000;

export interface IndexerOptions {
  /** For tests. */
  thread?: URL;
  timeMs?: number;
  heapMb?: number;
}

interface Job {
  request: IndexRequest;
  resolve(movie: Movie): void;
  reject(error: BatonError): void;
}

/**
 * Makes the index of films, one after the other, in a thread of its own with bounded memory and time: a long film, or one that was made to be a
 * burden, keeps nobody else waiting but the films behind it.
 */
export class Indexer {
  private readonly waiting: Job[] = [];
  private running: Job | undefined;
  private thread: Worker | undefined;
  /** Of what is running; of idleness where nothing is. */
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: IndexerOptions = {}) {}

  /**
   * As `readMovie`; rejects with a BatonError where reading fails or too many wait. A film that takes too much memory or time is a MediaError.
   * @param fd stays open until then
   */
  index(fd: number, size: number): Promise<Movie> {
    if (this.waiting.length >= WAITING_MAX) {
      return Promise.reject(new BatonError("LIMIT_REACHED", `${WAITING_MAX} films wait for their index already`));
    }
    return new Promise((resolve, reject) => {
      this.waiting.push({ request: { fd, size }, resolve, reject });
      this.next();
    });
  }

  private next(): void {
    if (this.running) return;
    clearTimeout(this.timer);
    const job = this.waiting.shift();
    if (!job) {
      this.thread?.unref();
      this.timer = setTimeout(() => this.drop(), IDLE_MS).unref();
      return;
    }
    this.running = job;
    const { timeMs = TIME_MS } = this.options;
    this.timer = setTimeout(() => this.lose(new MediaError("too large", "its index takes too long to make")), timeMs);
    try {
      this.thread ??= this.start();
      this.thread.ref();
      this.thread.postMessage(job.request);
    } catch (error) {
      this.lose(failureOf(error as Error));
    }
  }

  private start(): Worker {
    const { thread: url = new URL("./indexing_thread.js", import.meta.url), heapMb = HEAP_MB } = this.options;
    const thread = new Worker(url, { name: "indexer", resourceLimits: { maxOldGenerationSizeMb: heapMb } });
    const isCurrent = () => this.thread === thread;
    thread.on("message", (answer: IndexAnswer) => isCurrent() && this.answered(answer));
    thread.on("error", (error: NodeJS.ErrnoException) => isCurrent() && this.lose(failureOf(error)));
    thread.on("exit", () => isCurrent() && this.lose(new BatonError("INTERNAL", "the thread for indexes has ended")));
    return thread;
  }

  private answered(answer: IndexAnswer): void {
    const { running } = this;
    this.running = undefined;
    switch (answer.kind) {
      case "movie":
        running?.resolve(fromPortable(answer.movie));
        break;
      case "problem":
        running?.reject(new MediaError(answer.problem, answer.message));
        break;
      default:
        running?.reject(new BatonError("CONTENT_UNAVAILABLE", answer.message));
    }
    this.next();
  }

  /** The thread is of no use any more, nor is what it was at; the next one gets what is behind that. */
  private lose(error: BatonError): void {
    this.drop();
    this.running?.reject(error);
    this.running = undefined;
    this.next();
  }

  private drop(): void {
    const { thread } = this;
    this.thread = undefined;
    void thread?.terminate();
  }
}

function failureOf(error: NodeJS.ErrnoException): BatonError {
  return error.code === "ERR_WORKER_OUT_OF_MEMORY"
    ? new MediaError("too large", "its index takes too much memory to make", error)
    : new BatonError("INTERNAL", `the thread for indexes has failed: ${error.message}`, error);
}
