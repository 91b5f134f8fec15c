import { logger } from "../../proto/log.js";
import { Tally } from "../../proto/tally.js";
import type { Exposure } from "../protocols/application.js";

/** What the connections of this server have begun with that no other server could go on with: a line each, and how often by reason. */
export class Exposures {
  readonly tally = new Tally();

  constructor(private readonly log = logger("connection")) {}

  /** @param connection its id */
  add(connection: string, { reason, about, passes }: Exposure): void {
    this.tally.add(reason);
    this.log[passes ? "debug" : "info"]({ connection, ...about, reason }, "no other server could go on with this");
  }
}
