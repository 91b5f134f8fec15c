import { isRelated, ownerOfRecord } from "../../proto/record.js";

/** A record as the store has it. */
export interface Known {
  id: string;
  revision: number;
  bytes: Uint8Array;
  /** "" where it is of none. */
  bundleId: string;
}

/** One life of a server. */
export function ownerKey(server: string, incarnation: number): string {
  return `${server}/${incarnation}`;
}

/**
 * Everybody's records, as far as the watch has come. A bundle is whose its control connection's record says; what the others of it say
 * counts only where there is no such record.
 */
export class KnownRecords {
  private readonly byOwner = new Map<string, Map<string, Known>>();
  private readonly owners = new Map<string, string>();
  /** By bundle: the ids of related ones. */
  private readonly related = new Map<string, Set<string>>();
  private reached = 0;
  private waiting: Array<{ revision: number; resolve: () => void }> = [];

  /** @returns whose it is: an ownerKey. Throws RECORD_INVALID. */
  put(id: string, revision: number, bytes: Uint8Array): { owner: string; known: Known } {
    const { serverId, incarnation, bundleId } = ownerOfRecord(bytes);
    const known: Known = { id, revision, bytes, bundleId };
    const written = ownerKey(serverId, incarnation);
    this.remove(id);
    const owner = isRelated(known) ? (this.owners.get(bundleId) ?? written) : written;
    this.file(known, owner);
    if (isRelated(known)) this.related.set(bundleId, (this.related.get(bundleId) ?? new Set()).add(id));
    else for (const one of this.relatedTo(id)) this.file(one, owner);
    this.reach(revision);
    return { owner, known };
  }

  remove(id: string): void {
    const known = this.get(id);
    if (!known) return;
    this.unfile(id);
    if (!isRelated(known)) return;
    const related = this.related.get(known.bundleId);
    related?.delete(id);
    if (related?.size === 0) this.related.delete(known.bundleId);
  }

  get(id: string): Known | undefined {
    const owner = this.owners.get(id);
    return owner === undefined ? undefined : this.byOwner.get(owner)?.get(id);
  }

  ownerOf(id: string): string | undefined {
    return this.owners.get(id);
  }

  of(owner: string): ReadonlyMap<string, Known> {
    return this.byOwner.get(owner) ?? new Map();
  }

  /** The records of a bundle but for its control connection's. */
  relatedTo(bundleId: string): Known[] {
    return [...(this.related.get(bundleId) ?? [])].flatMap((id) => this.get(id) ?? []);
  }

  /** Resolves when the watch has come to that revision: everything that was written before it is here. */
  upTo(revision: number): Promise<void> {
    if (this.reached >= revision) return Promise.resolve();
    return new Promise((resolve) => this.waiting.push({ revision, resolve }));
  }

  private reach(revision: number): void {
    this.reached = Math.max(this.reached, revision);
    if (this.waiting.length === 0) return;
    const due = this.waiting.filter((one) => one.revision <= this.reached);
    this.waiting = this.waiting.filter((one) => one.revision > this.reached);
    for (const { resolve } of due) resolve();
  }

  private file(known: Known, owner: string): void {
    this.unfile(known.id);
    this.owners.set(known.id, owner);
    this.byOwner.set(owner, (this.byOwner.get(owner) ?? new Map()).set(known.id, known));
  }

  private unfile(id: string): void {
    const owner = this.owners.get(id);
    if (owner === undefined) return;
    this.owners.delete(id);
    const records = this.byOwner.get(owner);
    records?.delete(id);
    if (records?.size === 0) this.byOwner.delete(owner);
  }
}
