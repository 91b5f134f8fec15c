import { RefusedError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import type { LiveConnection } from "../connection/connection.js";
import type { Passed } from "../connection/passed.js";
import type { ConnectionTable } from "../connection/table.js";
import { guardFlag } from "../guard/index.js";
import { type OpenedObjects, prepareUnready, unreadyConnection } from "../restore/unready.js";
import { watchLate } from "../restore/watch_late.js";
import { decodePassed, type PassedMessage } from "./passage.js";

const log = logger("replace");

/**
 * Goes on with connections that this server's former worker has passed, those of a bundle or one alone: unready from their records, ready,
 * LIVE, with the same sockets, owner, epoch and writer. The guard's entries stay as they are. Where one cannot go on all their clients are
 * reset, exactly, and the log says why.
 * @param messages of a bundle the control connection comes last
 */
export async function takeConnections(table: ConnectionTable, messages: PassedMessage[], fds: number[]): Promise<void> {
  const taken: Taken[] = [];
  for (const message of messages) {
    const { passed, files, sources: count } = decodePassed(message);
    const [fd, ...rest] = fds.splice(0, 1 + files.length) as [number, ...number[]];
    const sources = fds.splice(0, count);
    const connection = unreadyConnection(table.host, passed.record, passed.revision, passed.recorded);
    const open = new Map(files.map((offset, at) => [offset, rest[at] as number]));
    taken.push({ connection, passed, fd, open, sources, protect: () => {} });
  }
  try {
    for (const one of taken) one.protect = await prepare(table, one);
  } catch (error) {
    const reason = (error as Error).message;
    for (const { connection, fd, open, sources } of taken) {
      log.error(
        { err: error, connection: connection.id },
        "a passed connection cannot go on here: its client is reset",
      );
      for (const left of [...open.values(), ...sources]) table.host.native.closeFd(left);
      void connection.reset(reason);
      table.host.native.closeInRepair(fd);
    }
    return;
  }
  for (const one of taken) goOn(table, one);
}

/** A connection, and what has come with it. */
interface Taken {
  connection: LiveConnection;
  passed: Passed;
  fd: number;
  /** Open files by the promises that name them; those that are taken up are taken out. */
  open: Map<number, number>;
  /** What its application reads from; until that has them. */
  sources: number[];
  /** What is to be done for unprotected promises once it is live. */
  protect: () => void;
}

function goOn(table: ConnectionTable, { connection, passed, fd, protect }: Taken): void {
  const { host } = table;
  const { record, limit, writtenTo, behind } = passed;
  connection.history.add("passed on", "", `to process ${process.pid}`);
  connection.phase.move("READY");
  connection.phase.move("LIVE");
  table.addLive(connection);
  connection.resume(fd, record.floor, record.spool, writtenTo, limit);
  protect();
  const entry = host.guard.lookup(record.flow);
  if (entry && entry.flags & guardFlag.WATCH_LATE) watchLate(connection);
  // A clamped ack whose commit has come may wait for a nudge of the worker that is gone.
  if (behind || entry?.clampedSinceNs !== 0n) connection.commit();
}

/** The layers take their sections in, with the files that came open. */
async function prepare(table: ConnectionTable, taken: Taken): Promise<() => void> {
  const { connection, open } = taken;
  const { record } = taken.passed;
  const protections: Array<() => void> = [];
  const opened: OpenedObjects = (reference, offset, application) => {
    const file = open.get(offset);
    if (file === undefined) return undefined;
    open.delete(offset);
    return application.take(reference, offset, file).then(({ file: object, ...protection }) => {
      if (protection.unprotected) protections.push(() => connection.protectLater(offset, protection));
      return object;
    });
  };
  const [missing] = await prepareUnready(table, connection, record, opened, taken.sources);
  if (missing) throw missing.refusal;
  if (!table.host.guard.lookup(record.flow)) throw new RefusedError("the guard does not know it");
  for (const left of open.values()) table.host.native.closeFd(left);
  open.clear();
  return () => {
    for (const protect of protections) protect();
  };
}
