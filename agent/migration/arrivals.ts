import { BatonError, RefusedError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import { decodeRecord } from "../../proto/record.js";
import type { HandoverReply, HandoverRequest, Prepare, PrepareAnswer } from "../../proto/rpc/index.js";
import { ConflictError } from "../../proto/store/index.js";
import type { ConnectionTable } from "../connection/table.js";
import type { OpenObject } from "../protocols/application.js";
import type { Stack } from "../protocols/stack.js";
import type { Heir } from "../restore/heir.js";
import type { Known } from "../restore/known_records.js";
import { neededObjects, unreadyConnection } from "../restore/unready.js";
import { Arriving, nameOf } from "./arriving.js";
import type { MigrationResult } from "./result.js";

const log = logger("migration");
/** What was prepared for a connection that does not come is let go of. */
const PREPARED_MS = 10_000;
const RETRY_MS = 20;
/** For a record that somebody else has seen already to be seen here. */
const RECORD_MS = 1_000;

interface Prepared {
  objects: Map<string, OpenObject>;
  timer: NodeJS.Timeout;
}

/**
 * Takes live connections from other servers:
 *
 *   asked: can this be served here? objects opened ─► state comes ─► unready, rebuilt, silent ─► record claimed ─► ready ─► LIVE
 *                                                                     │ until here nothing is sent, and all is undone
 */
export class Arrivals {
  private readonly prepared = new Map<string, Prepared>();

  constructor(
    private readonly table: ConnectionTable,
    private readonly heir: Heir,
    private readonly report: (result: MigrationResult) => void,
  ) {}

  /** Whether this server can go on with the connection, judged by its record. */
  async prepare({ request, migration, connectionId }: Prepare): Promise<PrepareAnswer> {
    const startedAt = performance.now();
    const answer = (reason: string): PrepareAnswer => ({
      ...{ request, ready: reason === "", reason, elapsedUs: Math.round((performance.now() - startedAt) * 1000) },
    });
    const known = await this.recordOf(connectionId);
    if (!known) return answer("it has no record here");
    const objects = new Map<string, OpenObject>();
    try {
      for (const one of [known, ...this.heir.relatedTo(connectionId)]) await this.open(one, objects);
    } catch (error) {
      for (const file of objects.values()) file.close();
      if (!(error instanceof RefusedError)) throw error;
      return answer(error.message);
    }
    const timer = setTimeout(() => this.cancel(migration), PREPARED_MS).unref();
    this.prepared.set(migration, { objects, timer });
    return answer("");
  }

  /** Opens what one connection will need. @param objects by nameOf. Throws RefusedError where this server cannot go on with it */
  private async open({ bytes, revision }: Known, objects: Map<string, OpenObject>): Promise<void> {
    const record = decodeRecord(bytes);
    const connection = unreadyConnection(this.table.host, record, revision);
    let stack: Stack | undefined;
    try {
      stack = this.table.createStack(connection, record);
      await stack.unready(record.layers);
      const unmovable = stack.application.unmovable?.();
      if (unmovable) throw new RefusedError(unmovable);
      for (const { object } of neededObjects(record)) {
        if (!objects.has(nameOf(object))) objects.set(nameOf(object), await stack.application.open(object, true));
      }
    } finally {
      stack?.undo();
      void stack?.application.closed(false);
    }
  }

  /** The controller knows of it: if this server does not yet, it soon will. */
  private async recordOf(connectionId: string): Promise<Known | undefined> {
    const deadline = performance.now() + RECORD_MS;
    for (;;) {
      const known = this.heir.lookup(connectionId);
      if (known || performance.now() > deadline) return known;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  cancel(migration: string): void {
    for (const file of this.take(migration).values()) file.close();
  }

  private take(migration: string): Map<string, OpenObject> {
    const prepared = this.prepared.get(migration);
    clearTimeout(prepared?.timer);
    this.prepared.delete(migration);
    return prepared?.objects ?? new Map();
  }

  /** The frozen connection comes, and those of its bundle. Answers once it is certain whose it is; never rejects. */
  async arrive(request: HandoverRequest, reply: (reply: HandoverReply) => void): Promise<void> {
    const { migration } = request;
    const startedAt = performance.now();
    const phasesUs: Record<string, number> = {};
    const mark = (phase: string) => {
      phasesUs[phase] = Math.round((performance.now() - startedAt) * 1000);
    };
    const objects = this.take(migration);
    const all: Arriving[] = [];
    try {
      for (const frozen of [request, ...request.related]) all.push(new Arriving(this.table, frozen));
      const [main, ...related] = all as [Arriving, ...Arriving[]];
      for (const one of all) await one.rebuild(objects, request.deadlineMs);
      mark("rebuilt");
      const claimed = await this.claim(main);
      if (claimed === undefined) throw new RefusedError("somebody else has the record");
      mark("committed");
      this.goLive(main, related, claimed);
      mark("ready");
      const { connection, record } = main;
      // First to the controller: until it knows packets are held. The former owner has nothing left to do but to clear away.
      this.report({ migration, connectionId: record.id, connection, result: "ok", reason: "", phasesUs });
      reply({ migration, committed: true, reason: "" });
    } catch (error) {
      const reason = (error as Error).message;
      log.warn({ migration, reason }, "a connection does not arrive");
      for (const one of all.reverse()) one.undo(reason);
      reply({ migration, committed: false, reason });
    } finally {
      for (const file of objects.values()) file.close();
    }
  }

  /** They are this server's. Related ones first: the control connection may have something to say about them. */
  private goLive(main: Arriving, related: Arriving[], claimed: number): void {
    try {
      for (const one of related) {
        one.goLive(one.revision);
        one.connection?.commit(); // it is ours by its control connection's record; now its own says so as well
      }
      main.goLive(claimed);
    } catch (error) {
      // They are ours, and their former owner has let go: from their records, as if that one had died.
      log.error({ err: error, connection: main.record.id }, "an arrived connection is taken over once more");
      for (const one of [...related, main]) one.undo((error as Error).message);
      this.heir.resumeOwn(main.record.id, claimed, main.bytes);
    }
  }

  /**
   * The commit point. @returns the revision; undefined where the record is somebody else's, for good. While the outcome is
   * not known it is asked for: the former owner will write in the end, and then it is.
   */
  private async claim({ record, revision, bytes }: Arriving): Promise<number | undefined> {
    const { bucket, writer } = this.table.host;
    const isMine = (bytes: Uint8Array) => {
      const present = decodeRecord(bytes);
      return present.writer === writer && present.epoch === record.epoch;
    };
    try {
      return await bucket.commit(record.id, bytes, revision, `${record.id}/${writer}/arrive/${revision}`, isMine);
    } catch (error) {
      if (error instanceof ConflictError) return undefined;
      if (error instanceof BatonError && error.code === "STORE_TOO_SMALL") throw error; // it was not sent
      log.warn({ err: error, connection: record.id }, "it is not known yet whose a connection is");
    }
    for (;;) {
      try {
        const present = await bucket.read(record.id);
        if (!present.removed && present.revision > 0 && isMine(present.bytes)) return present.revision;
        if (present.revision !== revision) return undefined;
      } catch {
        // the store is still away
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}
