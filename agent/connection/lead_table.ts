import { decodeRecord, type LayerSection } from "../../proto/record.js";
import { ConflictError, type ConnectionsBucket } from "../../proto/store/index.js";
import type { Holder, Leads } from "../protocols/index.js";

/** The watch is hardly ever that much behind. */
const BEHIND_MS = 2_000;

interface Lead {
  id: string;
  revision: number;
}

/** Who leads what, as the store's watch says. */
export class LeadTable implements Leads {
  private readonly leads = new Map<string, Lead>();
  private readonly watchers = new Map<string, Set<() => void>>();

  /** @param recordOf as the watch has last seen it; undefined: there is none */
  constructor(
    private readonly bucket: Pick<ConnectionsBucket, "commitLead" | "read">,
    private readonly recordOf: (id: string) => Uint8Array | undefined,
  ) {}

  holder(name: string): Holder | undefined {
    const lead = this.leads.get(name);
    if (!lead) return undefined;
    const sections = () => {
      const bytes = this.recordOf(lead.id);
      return bytes ? decodeRecord(bytes).layers : [];
    };
    return { ...lead, sections };
  }

  async take(name: string, id: string, seen: number, leads: (sections: LayerSection[]) => boolean): Promise<boolean> {
    const holder = this.leads.get(name);
    try {
      // A record is written again and again, and the store keeps the last one alone: of what was written before the key the watch may bring nothing
      // until long behind it. Once the holder's record says no it would have to take the key anew, and one of us then fails.
      if (holder && holder.id !== id && leads(await this.present(holder.id))) {
        await this.changed(name, () => true);
        return false;
      }
      this.seen(name, await this.bucket.commitLead(name, id, seen), id);
      return true;
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      const isSeen = () => (this.leads.get(name)?.revision ?? 0) >= error.present.revision;
      if (!isSeen()) await this.changed(name, isSeen);
      return false;
    }
  }

  private async present(id: string): Promise<LayerSection[]> {
    const { revision, removed, bytes } = await this.bucket.read(id);
    return revision === 0 || removed ? [] : decodeRecord(bytes).layers;
  }

  /** Whoever is told no is to see why. Resolves when that is so at a change, or in a while. */
  private changed(name: string, isSo: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        watching.close();
        resolve();
      };
      const timer = setTimeout(done, BEHIND_MS);
      const watching = this.watch(name, () => isSo() && done());
    });
  }

  watch(name: string, changed: () => void): { close(): void } {
    const watchers = this.watchers.get(name) ?? new Set();
    this.watchers.set(name, watchers.add(changed));
    return {
      close: () => {
        watchers.delete(changed);
        if (watchers.size === 0 && this.watchers.get(name) === watchers) this.watchers.delete(name);
      },
    };
  }

  /** This bundle leads since that revision. */
  seen(name: string, revision: number, id: string): void {
    if (revision <= (this.leads.get(name)?.revision ?? 0)) return;
    this.leads.set(name, { id, revision });
    this.tell(name);
  }

  /** A record is another one, or is gone. */
  recordChanged(id: string): void {
    if (this.watchers.size === 0) return;
    for (const name of [...this.watchers.keys()]) if (this.leads.get(name)?.id === id) this.tell(name);
  }

  private tell(name: string): void {
    for (const changed of [...(this.watchers.get(name) ?? [])]) changed();
  }
}
