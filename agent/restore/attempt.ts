import type { ConnectionRecord } from "../../proto/record.js";
import type { TakeoverOutcome } from "../../proto/vocabulary.js";

export interface ResumptionResult {
  id: string;
  flow: ConnectionRecord["flow"];
  result: TakeoverOutcome;
  reason: string;
  epoch: number;
  from: string;
  /** Phase name to microseconds since this resumption began. */
  phasesUs: Record<string, number>;
}

/** One try to take a connection over, or a whole bundle. */
export interface Attempt {
  /** Whether the record names this server by now. */
  readonly isOurs: boolean;
  /** Of a result "failed": why. */
  readonly failure: unknown;
  /**
   * Never rejects. `undefined`: somebody else has the connection.
   * @param waiting called when all that is left is the client's answer, which may take its time.
   */
  run(waiting: () => void): Promise<ResumptionResult | undefined>;
  /** The same from where it stands. @param refuse it has failed too often: only to reset the client. */
  again(refuse: boolean): Attempt;
  /** It is ours and not even a reset is possible: its record goes, so that nobody waits for it. Never rejects. */
  abandon(): Promise<void>;
}
