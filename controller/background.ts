import type { Logger } from "../proto/log.js";

/**
 * For work that nobody waits for: what goes wrong with it is logged, where an unhandled rejection would end the daemon and
 * all that it steers.
 */
export function inBackground(log: Logger, what: string, work: Promise<unknown>): void {
  work.catch((error: unknown) => log.error({ err: error }, `${what} failed`));
}
