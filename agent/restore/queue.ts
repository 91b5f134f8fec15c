import { logger } from "../../proto/log.js";

const log = logger("heir");
/** Jobs at once that are claiming and preparing. Those that wait for their client do not count. */
const PARALLEL_MAX = 128;
const BEGUN_A_TURN = 32;

/** @param release called when all that is left is somebody else's answer: the next job may begin. */
export type Job = (release: () => void) => Promise<void>;

/** Begins jobs in order, a few a turn of the loop: heartbeats, answers and other connections' packets get their turn in between. */
export class JobQueue {
  private readonly waiting: Job[] = [];
  private running = 0;
  private turn: NodeJS.Immediate | undefined;

  /** Begins as soon as there is a place. */
  add(job: Job): void {
    this.waiting.push(job);
    this.next();
  }

  private next(): void {
    this.turn ??= setImmediate(() => {
      this.turn = undefined;
      for (let begun = 0; begun < BEGUN_A_TURN && this.running < PARALLEL_MAX; begun++) {
        const job = this.waiting.shift();
        if (!job) return;
        this.begin(job);
      }
      if (this.waiting.length > 0 && this.running < PARALLEL_MAX) this.next();
    });
  }

  private begin(job: Job): void {
    this.running++;
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      this.running--;
      if (this.waiting.length > 0) this.next();
    };
    job(release)
      .catch((error) => log.error({ err: error }, "a takeover's job threw"))
      .finally(release);
  }
}
