import { BatonError, type ErrorCode } from "../../proto/errors.js";
import { parseConnectionId } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import type { Attempt, ResumptionResult } from "./attempt.js";
import { JobQueue } from "./queue.js";
import { Retries } from "./retries.js";

const log = logger("heir");
/** Of a connection that is ours and lacks something here (a descriptor, room in the guard): then its client is reset. */
const TRIES_MAX = 5;
/** The reset may lack the same: about a minute. Then the end is said here alone. */
const REFUSALS_MAX = 15;
/** The same record will be as unreadable the next time. */
const FINAL: readonly ErrorCode[] = ["RECORD_VERSION", "RECORD_INVALID"];

/** One connection that is to be taken over. */
export interface Quarry {
  id: string;
  /** Whose it was. */
  from: string;
  /** Throws where the record cannot be read. */
  make(): Attempt;
  /** While the record is not ours: whether it still is for this server to take. */
  isWanted(): boolean;
  /** Once, at the end. `undefined`: somebody else has the connection, or it is over. */
  done(result: ResumptionResult | undefined): void;
}

/**
 * Takes connections over, and does not let go of one before it has ended one way or the other:
 *
 *   try ─► ok, finished, gone, refused                                  said
 *    ▲ └─► failed, not ours ── while the takeover is open ─┐
 *    │ └─► failed, ours ────── at most five times ─────────┤
 *    └─────────────────── growing delay ◄──────────────────┘
 *                    then ─► the client is asked for its ack and reset  said
 */
export class Pursuit {
  private readonly queue = new JobQueue();
  private readonly retries = new Retries();
  private readonly under = new Set<string>();

  /** Whether the connection is being taken over, or will be tried again. */
  has(id: string): boolean {
    return this.under.has(id);
  }

  /** How often something was tried once more. */
  get retried(): number {
    return this.retries.total;
  }

  begin(quarry: Quarry): void {
    this.under.add(quarry.id);
    this.attempt(quarry, () => quarry.make(), { tries: 0, ours: 0 });
  }

  /** What waits for its next try need not wait any longer. */
  hurry(): void {
    this.retries.hurry();
  }

  /** @param failed how often it has failed, and how often of those it was ours. */
  private attempt(quarry: Quarry, make: () => Attempt, failed: { tries: number; ours: number }): void {
    this.queue.add(async (release) => {
      let attempt: Attempt;
      try {
        attempt = make();
      } catch (error) {
        log.error({ connection: quarry.id, err: error }, "a record cannot be read, and is left alone");
        this.end(quarry, unreadable(quarry, error));
        return;
      }
      const result = await attempt.run(release);
      if (result?.result !== "failed" || (!attempt.isOurs && isFinal(attempt.failure))) {
        this.end(quarry, result);
        return;
      }
      const [tries, ours] = [failed.tries + 1, failed.ours + (attempt.isOurs ? 1 : 0)];
      if (ours >= TRIES_MAX + REFUSALS_MAX) {
        await attempt.abandon();
        this.end(quarry, result);
        return;
      }
      this.retries.later(quarry.id, tries, () => {
        if (!attempt.isOurs && !quarry.isWanted()) this.end(quarry, undefined);
        else this.attempt(quarry, () => attempt.again(ours >= TRIES_MAX), { tries, ours });
      });
    });
  }

  private end(quarry: Quarry, result: ResumptionResult | undefined): void {
    this.under.delete(quarry.id);
    quarry.done(result);
  }
}

function unreadable({ id, from }: Quarry, error: unknown): ResumptionResult {
  const { flow } = parseConnectionId(id);
  const isOther = error instanceof BatonError && error.code === "RECORD_VERSION";
  const reason = isOther ? "the record is of another version" : "the record cannot be read";
  return { id, flow, result: "failed", reason, epoch: 0, from, phasesUs: {} };
}

function isFinal(error: unknown): boolean {
  return error instanceof BatonError && FINAL.includes(error.code);
}
