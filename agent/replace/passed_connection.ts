import { RefusedError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import type { LiveConnection } from "../connection/connection.js";
import type { Passed } from "../connection/passed.js";
import type { ConnectionTable } from "../connection/table.js";
import { guardFlag } from "../guard/index.js";
import { prepareUnready, unreadyConnection } from "../restore/unready.js";
import { watchLate } from "../restore/watch_late.js";
import { decodePassed, type PassedMessage } from "./passage.js";

const log = logger("replace");

/**
 * Goes on with a connection that this server's former worker has passed: unready from its record, ready, LIVE, with the same socket, owner, epoch
 * and writer. The guard's entry stays as it is. Where that cannot be, the client is reset, exactly, and the log says why.
 */
export async function takeConnection(table: ConnectionTable, message: PassedMessage, fds: number[]): Promise<void> {
  const { host } = table;
  const [fd, ...rest] = fds as [number, ...number[]];
  const { passed, files } = decodePassed(message);
  const { record, limit, writtenTo } = passed;
  const connection = unreadyConnection(host, record, passed.revision, passed.recorded);
  let protect: () => void;
  try {
    protect = await prepare(
      table,
      connection,
      passed,
      new Map(files.map((offset, at) => [offset, rest[at] as number])),
    );
  } catch (error) {
    const reason = (error as Error).message;
    log.error({ err: error, connection: record.id }, "a passed connection cannot go on here: its client is reset");
    connection.reset(reason);
    host.native.closeInRepair(fd);
    return;
  }
  connection.history.add("passed on", "", `to process ${process.pid}`);
  connection.phase.move("READY");
  connection.phase.move("LIVE");
  table.addLive(connection);
  connection.resume(fd, record.floor, record.spool, writtenTo, limit);
  protect();
  const entry = host.guard.lookup(record.flow);
  if (entry && entry.flags & guardFlag.WATCH_LATE) watchLate(connection);
  // A clamped ack whose commit has come may wait for a nudge of the worker that is gone.
  if (passed.behind || entry?.clampedSinceNs !== 0n) connection.commit();
}

/** The layers take their sections in, with the files that came open. @returns what is to be done for unprotected ones once it is live */
async function prepare(
  table: ConnectionTable,
  connection: LiveConnection,
  { record }: Passed,
  files: Map<number, number>,
): Promise<() => void> {
  const protections: Array<() => void> = [];
  try {
    const [missing] = await prepareUnready(table, connection, record, (reference, offset, application) => {
      const file = files.get(offset);
      if (file === undefined) return undefined;
      files.delete(offset);
      return application.take(reference, offset, file).then(({ file: object, ...protection }) => {
        if (protection.unprotected) protections.push(() => connection.protectLater(offset, protection));
        return object;
      });
    });
    if (missing) throw missing.refusal;
    if (!table.host.guard.lookup(record.flow)) throw new RefusedError("the guard does not know it");
  } finally {
    for (const left of files.values()) table.host.native.closeFd(left);
  }
  return () => {
    for (const protect of protections) protect();
  };
}
