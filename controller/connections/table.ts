import { type Flow, flowKey } from "../../proto/flow.js";
import { ConnectionEntry } from "./entry.js";

export interface Change {
  entry: ConnectionEntry;
  /** What was known before; undefined for a new connection. */
  previous: ConnectionEntry | undefined;
}

/**
 * Every connection in the store, found by id, by flow, by bundle and by owner. Feed it with what a watch of the bucket reports. A related
 * connection is its control connection's owner's, whatever its own record says, as long as that one is known.
 */
export class ConnectionIndex {
  readonly #byId = new Map<string, ConnectionEntry>();
  /** The latest connection of each 5-tuple. */
  readonly #byFlow = new Map<string, ConnectionEntry>();
  /** server -> incarnation -> ids */
  readonly #byOwner = new Map<string, Map<number, Set<string>>>();
  /** Related connections, by their control connection's id. */
  readonly #byBundle = new Map<string, Set<string>>();

  get size(): number {
    return this.#byId.size;
  }

  /**
   * A record as the store has it now. Throws RECORD_INVALID or RECORD_VERSION, and then forgets what it knew: an entry
   * that cannot be read must not be shown as if it were the present one.
   */
  apply(id: string, revision: number, bytes: Uint8Array): Change {
    const previous = this.#take(id);
    const entry = this.#read(id, revision, bytes);
    this.#byId.set(id, entry);
    const flow = entry.key;
    const latest = this.#byFlow.get(flow);
    if (!latest || latest.record().bornAtUs <= entry.record().bornAtUs) this.#byFlow.set(flow, entry);
    if (entry.isRelated) this.#joinBundle(entry);
    this.#own(entry);
    this.#lead(id, entry);
    return { entry, previous };
  }

  #read(id: string, revision: number, bytes: Uint8Array): ConnectionEntry {
    try {
      return new ConnectionEntry(id, revision, bytes);
    } catch (error) {
      this.#lead(id, undefined);
      throw error;
    }
  }

  /** The key is gone. @returns what was known of it. */
  removed(id: string): ConnectionEntry | undefined {
    const entry = this.#take(id);
    this.#lead(id, undefined);
    return entry;
  }

  /** Without those that go with it: a record that is only replaced must not send them to and fro. */
  #take(id: string): ConnectionEntry | undefined {
    const entry = this.#byId.get(id);
    if (!entry) return undefined;
    this.#byId.delete(id);
    const flow = entry.key;
    if (this.#byFlow.get(flow) === entry) this.#byFlow.delete(flow);
    this.#disown(entry);
    if (entry.isRelated) {
      const bundle = this.#byBundle.get(entry.bundleId);
      bundle?.delete(id);
      if (bundle?.size === 0) this.#byBundle.delete(entry.bundleId);
    }
    return entry;
  }

  #joinBundle(entry: ConnectionEntry): void {
    const bundle = this.#byBundle.get(entry.bundleId);
    if (bundle) bundle.add(entry.id);
    else this.#byBundle.set(entry.bundleId, new Set([entry.id]));
    entry.control = this.#byId.get(entry.bundleId);
  }

  /** The connections that are related to this one follow it. @param control as it is now; undefined: nobody knows it any more */
  #lead(id: string, control: ConnectionEntry | undefined): void {
    if (!this.#byBundle.has(id)) return;
    for (const entry of this.related(id)) {
      this.#disown(entry);
      entry.control = control;
      this.#own(entry);
    }
  }

  #own({ id, serverId, incarnation }: ConnectionEntry): void {
    this.#idsOf(serverId, incarnation).add(id);
  }

  #disown({ id, serverId, incarnation }: ConnectionEntry): void {
    const incarnations = this.#byOwner.get(serverId);
    const ids = incarnations?.get(incarnation);
    ids?.delete(id);
    if (ids?.size === 0) incarnations?.delete(incarnation);
    if (incarnations?.size === 0) this.#byOwner.delete(serverId);
  }

  /** What goes with a control connection and has a record. */
  related(id: string): ConnectionEntry[] {
    return [...(this.#byBundle.get(id) ?? [])].flatMap((related) => this.#byId.get(related) ?? []);
  }

  get(id: string): ConnectionEntry | undefined {
    return this.#byId.get(id);
  }

  /** The latest connection of this 5-tuple. */
  ofFlow(flow: Flow): ConnectionEntry | undefined {
    return this.#byFlow.get(flowKey(flow));
  }

  /** All connections, or those of one owner, or of one life of it. */
  *entries(server?: string, incarnation?: number): Generator<ConnectionEntry> {
    if (server === undefined) {
      yield* this.#byId.values();
      return;
    }
    for (const [life, ids] of this.#byOwner.get(server) ?? []) {
      if (incarnation !== undefined && life !== incarnation) continue;
      for (const id of ids) {
        const entry = this.#byId.get(id);
        if (entry) yield entry;
      }
    }
  }

  /** How many connections a server owns, in all its lives or in one. */
  count(server: string, incarnation?: number): number {
    const incarnations = this.#byOwner.get(server);
    if (!incarnations) return 0;
    if (incarnation !== undefined) return incarnations.get(incarnation)?.size ?? 0;
    let sum = 0;
    for (const ids of incarnations.values()) sum += ids.size;
    return sum;
  }

  /** Owners with the incarnations under which they hold records. */
  owners(): { server: string; incarnation: number; connections: number }[] {
    return [...this.#byOwner].flatMap(([server, incarnations]) =>
      [...incarnations].map(([incarnation, ids]) => ({ server, incarnation, connections: ids.size })),
    );
  }

  #idsOf(server: string, incarnation: number): Set<string> {
    let incarnations = this.#byOwner.get(server);
    if (!incarnations) {
      incarnations = new Map();
      this.#byOwner.set(server, incarnations);
    }
    let ids = incarnations.get(incarnation);
    if (!ids) {
      ids = new Set();
      incarnations.set(incarnation, ids);
    }
    return ids;
  }
}
