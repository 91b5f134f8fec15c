import { BatonError } from "../errors.js";
import { Bucket, type BucketContext } from "./bucket.js";
import type { Present } from "./errors.js";
import type { WatchedMessage } from "./watcher.js";

export interface ConnectionsHandlers {
  onRecord(id: string, revision: number, bytes: Uint8Array): void;
  onRemoved(id: string, revision: number): void;
  /** `key` is `<server>.<incarnation>`. */
  onTakeover(key: string, revision: number, bytes: Uint8Array): void;
  onTakeoverRemoved?(key: string, revision: number): void;
  /** `holder` is the id of a control connection. */
  onLead?(name: string, revision: number, holder: string): void;
  /** Everything up to this stream sequence was handed over; at the start and again after each interruption. */
  onCaughtUp(streamSequence: number): void;
  onInterrupted?(why: string): void;
}

interface Tombstone {
  revision: number;
  storedAtMs: number;
}

const recordPrefix = "c.";
const takeoverPrefix = "t.";
const leadPrefix = "l.";

/**
 * Bucket `connections`: records under `c.<connection id>`, takeovers under `t.<server>.<incarnation>`, and under `l.<name>` which bundle
 * leads what many share. All in one stream, so that who sees a takeover, or a lead, has seen every record committed before it.
 */
export class ConnectionsBucket {
  readonly #bucket: Bucket;
  readonly #writer: string;
  /** Tombstones seen by a watch of this process, oldest first. */
  readonly #tombstones = new Map<string, Tombstone>();
  #counter = 0;

  constructor(context: BucketContext, writer: string) {
    this.#bucket = new Bucket("connections", context);
    this.#writer = writer;
  }

  /**
   * Commits a record. One write in flight an id; any number of ids at once. Survives reconnects.
   * @param expectedRevision 0 for the first commit of a connection
   * @param messageId unique a write; the same for a repetition of the same write
   * @param isMine whether bytes found after a lost comparison are this write (its message id is compared anyway)
   * @returns the revision, to be expected by the next write
   * @throws ConflictError, BatonError STORE_UNAVAILABLE (outcome unknown: read before going on), STORE_FAILED or STORE_TOO_SMALL
   */
  async commit(
    id: string,
    bytes: Uint8Array,
    expectedRevision: number,
    messageId: string,
    isMine?: (bytes: Uint8Array) => boolean,
  ): Promise<number> {
    const options = isMine === undefined ? {} : { isMine };
    const put = { ...options, messageId, expected: expectedRevision };
    return (await this.#bucket.put(recordPrefix + id, bytes, put)).revision;
  }

  /** Leaves a tombstone. @returns its revision. @throws as commit */
  async remove(id: string, expectedRevision: number): Promise<number> {
    return this.#remove(recordPrefix + id, expectedRevision);
  }

  /** The leader's view: revision 0 = never written, `removed` = a tombstone. */
  read(id: string): Promise<Present> {
    return this.#bucket.read(recordPrefix + id);
  }

  async commitTakeover(
    server: string,
    incarnation: bigint | number,
    bytes: Uint8Array,
    expectedRevision: number,
  ): Promise<number> {
    const key = `${takeoverPrefix}${server}.${incarnation}`;
    const messageId = this.#messageId();
    return (await this.#bucket.put(key, bytes, { messageId, expected: expectedRevision })).revision;
  }

  async removeTakeover(server: string, incarnation: bigint | number, expectedRevision: number): Promise<number> {
    return this.#remove(`${takeoverPrefix}${server}.${incarnation}`, expectedRevision);
  }

  /** From now on this bundle has the lead: a control connection's id. Never removed. @returns the revision @throws as commit */
  async commitLead(name: string, holder: string, expectedRevision: number): Promise<number> {
    const put = { messageId: this.#messageId(), expected: expectedRevision };
    return (await this.#bucket.put(leadPrefix + name, Buffer.from(holder), put)).revision;
  }

  watch(handlers: ConnectionsHandlers): { close(): void } {
    return this.#bucket.watch({
      onMessage: (message) => this.#dispatch(message, handlers),
      onCaughtUp: (sequence) => handlers.onCaughtUp(sequence),
      ...(handlers.onInterrupted && { onInterrupted: handlers.onInterrupted.bind(handlers) }),
    });
  }

  /** Tombstones that a watch of this process has seen and that are not trimmed yet. */
  get tombstones(): number {
    return this.#tombstones.size;
  }

  /**
   * Takes tombstones older than this out of the stream for good, at most `limit` a call. Needs a watch in this process.
   * The age must be far above the longest deadline of a write: a late first commit would else find a free key.
   * @returns how many are gone
   */
  async trimTombstones(olderThanMs: number, limit = 512): Promise<number> {
    if (olderThanMs < 60_000) throw new BatonError("INTERNAL", "tombstones must be kept for a minute at least");
    return this.eraseTombstones(Date.now() - olderThanMs, limit);
  }

  /** As trimTombstones, by the instant (Unix milliseconds) before which they were stored. */
  async eraseTombstones(storedBeforeMs: number, limit: number): Promise<number> {
    const due: Array<[string, Tombstone]> = [];
    for (const entry of this.#tombstones) {
      if (entry[1].storedAtMs >= storedBeforeMs || due.length >= limit) break;
      due.push(entry);
    }
    const inParallel = 32;
    for (let i = 0; i < due.length; i += inParallel) {
      await Promise.all(due.slice(i, i + inParallel).map(([, tombstone]) => this.#bucket.erase(tombstone.revision)));
    }
    for (const [key, tombstone] of due) {
      if (this.#tombstones.get(key) === tombstone) this.#tombstones.delete(key);
    }
    return due.length;
  }

  async #remove(key: string, expected: number): Promise<number> {
    const messageId = this.#messageId();
    return (await this.#bucket.put(key, new Uint8Array(0), { messageId, expected, remove: true })).revision;
  }

  #messageId(): string {
    return `${this.#writer}/${++this.#counter}`;
  }

  #dispatch(message: WatchedMessage, handlers: ConnectionsHandlers): void {
    const { key, revision, bytes, removed } = message;
    this.#tombstones.delete(key);
    if (removed) this.#tombstones.set(key, { revision, storedAtMs: message.storedAtMs });
    if (key.startsWith(recordPrefix)) {
      const id = key.slice(recordPrefix.length);
      if (removed) handlers.onRemoved(id, revision);
      else handlers.onRecord(id, revision, bytes);
    } else if (key.startsWith(takeoverPrefix)) {
      const takeover = key.slice(takeoverPrefix.length);
      if (removed) handlers.onTakeoverRemoved?.(takeover, revision);
      else handlers.onTakeover(takeover, revision, bytes);
    } else if (key.startsWith(leadPrefix) && !removed) {
      handlers.onLead?.(key.slice(leadPrefix.length), revision, Buffer.from(bytes).toString());
    }
  }
}
