import { BatonError, RefusedError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import { decodeRecord, encodeRecord, ownerOfRecord } from "../../proto/record.js";
import type { Freeze, FrozenConnection, HandoverReply } from "../../proto/rpc/index.js";
import { ConflictError } from "../../proto/store/index.js";
import type { LiveConnection } from "../connection/connection.js";
import type { Frozen } from "../connection/frozen.js";
import { life } from "../connection/life.js";
import type { ConnectionTable } from "../connection/table.js";
import type { Peers } from "./peers.js";
import type { MigrationResult } from "./result.js";

const log = logger("migration");
/** For the stream to a server that has just come back. The flow is held meanwhile. */
const STREAM_MS = 700;
/** Between tries to take a record back from a store that does not answer. */
const RECLAIM_PAUSE_MS = 50;
let reclaims = 0;

/** A connection that stands still. */
interface Still {
  connection: LiveConnection;
  frozen: Frozen;
}

/**
 * Hands live connections over to other servers:
 *
 *   freeze ─► state to the target ─► it has committed: closed unseen
 *                 │                └ it never will: thawed, RESUMED_ON_OLD
 *                 └ no word by the deadline: the record is written anew. That settles it, for one compare-and-set alone succeeds.
 */
export class Departures {
  private readonly waiting = new Map<string, (reply: HandoverReply) => void>();
  /** By connection: what the record's next owner means for it. */
  private readonly frozen = new Map<string, (owner: string) => void>();

  constructor(
    private readonly table: ConnectionTable,
    private readonly peers: Peers,
    private readonly report: (result: MigrationResult) => void,
  ) {}

  /** Never rejects: whatever happens is reported, by the one who has the connection in the end. */
  async depart(request: Freeze): Promise<void> {
    const { connectionId, migration, target } = request;
    const connection = this.table.get(connectionId);
    const startedAt = performance.now();
    const say = (reason: string, phasesUs: Record<string, number> = {}) =>
      this.report({ migration, connection, connectionId, result: "resumedOnOld", reason, phasesUs });
    if (!connection) return say("the owner has no such connection");
    let frozen: Frozen;
    let related: Still[];
    try {
      if (!(await this.peers.connected(target, STREAM_MS))) throw new RefusedError(`there is no stream to ${target}`);
      related = await this.freezeRelated(connection);
      frozen = await connection.freeze().catch((error) => {
        thaw(related);
        throw error;
      });
      if (this.hasMore(connection, related)) {
        thaw(related);
        connection.thaw(frozen, frozen.revision);
        throw new RefusedError("a related connection has just come");
      }
    } catch (error) {
      return say((error as Error).message);
    }
    const phasesUs = { frozen: Math.round((performance.now() - startedAt) * 1000) };
    const reply = await this.handOver(
      request,
      frozen,
      related.map((one) => one.frozen),
    );
    const revision = reply?.committed ? undefined : reply ? frozen.revision : await this.reclaim(connection, frozen);
    if (revision === undefined) {
      for (const one of related) one.connection.handedOver(one.frozen, target);
      return connection.handedOver(frozen, target);
    }
    thaw(related);
    connection.thaw(frozen, revision);
    say(reply?.reason ?? `no word from ${target} in time`, phasesUs);
  }

  /**
   * The connections of its bundle, which stand still before it does: what one of them has yet to say to it, it says before. One that ends
   * meanwhile needs no server any more. Throws RefusedError; then all go on.
   */
  private async freezeRelated({ id, bundleId }: LiveConnection): Promise<Still[]> {
    const still: Still[] = [];
    for (const other of bundleId === id ? this.table.host.bundles.relatedTo(id) : []) {
      const connection = this.table.get(other);
      if (!connection) continue;
      try {
        still.push({ connection, frozen: await connection.freeze() });
      } catch (error) {
        if (connection.isOver) continue;
        thaw(still);
        throw error;
      }
    }
    return still;
  }

  /** Whether its bundle has grown since the others stand still. */
  private hasMore({ id, bundleId }: LiveConnection, still: Still[]): boolean {
    if (bundleId !== id) return false;
    const standing = new Set(still.map(({ connection }) => connection.id));
    return this.table.host.bundles.relatedTo(id).some((one) => !standing.has(one));
  }

  answered(reply: HandoverReply): void {
    this.waiting.get(reply.migration)?.(reply);
  }

  /**
   * The store has a newer record of a connection. Where the target's answer is late or lost this says it as well, and in time: a takeover of
   * the target, which comes behind it in the same stream, may bring the connection back to this very server.
   */
  recordSeen(connectionId: string, bytes: Uint8Array): void {
    this.frozen.get(connectionId)?.(ownerOfRecord(bytes).serverId);
  }

  /** @returns undefined where there is no answer in time. */
  private handOver(request: Freeze, frozen: Frozen, related: Frozen[]): Promise<HandoverReply | undefined> {
    const { migration, target, deadlineMs, connectionId } = request;
    return new Promise((resolve) => {
      const end = (reply: HandoverReply | undefined) => {
        clearTimeout(timer);
        this.waiting.delete(migration);
        this.frozen.delete(connectionId);
        resolve(reply);
      };
      const timer = setTimeout(end, deadlineMs, undefined);
      this.waiting.set(migration, end);
      this.frozen.set(connectionId, (owner) => {
        if (owner !== this.table.host.serverId) end({ migration, committed: true, reason: "" });
      });
      this.peers.send(target, { migration, deadlineMs, ...messageOf(frozen), related: related.map(messageOf) });
    });
  }

  /** Makes sure that nobody else takes the record any more. @returns its revision; undefined where somebody else has it. */
  private async reclaim(connection: LiveConnection, { record, revision }: Frozen): Promise<number | undefined> {
    const { bucket, writer } = this.table.host;
    const mine = encodeRecord({ ...record, phase: "LIVE", writer });
    const messageId = `${record.id}/${writer}/reclaim/${life}/${++reclaims}`;
    for (;;) {
      try {
        return await bucket.commit(record.id, mine, revision, messageId);
      } catch (error) {
        if (error instanceof ConflictError) {
          const { present } = error;
          if (present.removed || present.revision === 0) return undefined;
          return decodeRecord(present.bytes).writer === writer ? present.revision : undefined;
        }
        if (!(error instanceof BatonError) || connection.isOver) throw error;
        log.warn({ err: error, connection: record.id }, "a frozen connection waits for the store");
        await new Promise((resolve) => setTimeout(resolve, RECLAIM_PAUSE_MS));
      }
    }
  }
}

function messageOf({ bytes, revision, socket }: Frozen): FrozenConnection {
  return { record: bytes, revision, socket };
}

function thaw(still: Still[]): void {
  for (const { connection, frozen } of still) connection.thaw(frozen, frozen.revision);
}
