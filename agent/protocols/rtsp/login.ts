import { setTimeout as delay } from "node:timers/promises";
import { wallClockUs } from "../../../proto/clock.js";
import { logger } from "../../../proto/log.js";
import type { Answer } from "./answer.js";
import { challenges, checkDigest, type DigestSettings } from "./digest.js";
import type { Request } from "./request.js";

const log = logger("rtsp");
/** Wrong answers to a challenge, one behind the other; each takes a moment longer. */
const FAILURES_MAX = 3;
const FAILURE_MS = 500;

/** Who speaks on a connection, as every request says anew. */
export class Login {
  /** Whose password was right last, "" while nobody's was; and wrong ones since. */
  user = "";
  failures = 0;

  /** @param connectionId for the log */
  constructor(
    private readonly settings: DigestSettings,
    private readonly connectionId: string,
  ) {}

  /** The answer to a request that may not be executed; undefined: it may. */
  async deny(request: Request): Promise<Answer | undefined> {
    const { connectionId } = this;
    const header = request.headers.get("authorization");
    const verdict = checkDigest(header, request, this.settings, nowMs());
    if (verdict.kind === "granted") {
      const { user } = verdict;
      if (user !== this.user) log.info({ connection: connectionId, user }, "a user has given the right password");
      Object.assign(this, { user, failures: 0 });
      return undefined;
    }
    if (verdict.kind === "stale" || header === undefined) return this.challenge(verdict.kind === "stale");
    this.failures++;
    await delay(FAILURE_MS);
    if (this.failures < FAILURES_MAX) return this.challenge(false);
    log.warn({ connection: connectionId }, `${FAILURES_MAX} wrong passwords: the connection ends`);
    return { ...this.challenge(false), last: true };
  }

  private challenge(stale: boolean): Answer {
    const headers = challenges(this.settings, nowMs(), stale).map((value) => ["WWW-Authenticate", value] as const);
    return { status: 401, headers };
  }
}

function nowMs(): number {
  return Math.floor(wallClockUs() / 1_000);
}
