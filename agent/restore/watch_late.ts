import type { LiveConnection } from "../connection/connection.js";
import { guardFlag } from "../guard/index.js";

/** How long the guard looks out for acks of late data of the dead server. */
const WATCH_LATE_MS = 3_000;

/** The guard has begun to look out: in a while it is enough. */
export function watchLate(connection: LiveConnection): void {
  setTimeout(() => {
    if (connection.isOver) return;
    connection.host.guard.change(connection.flow, { clearFlags: guardFlag.WATCH_LATE });
  }, WATCH_LATE_MS).unref();
}
