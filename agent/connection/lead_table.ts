import { decodeRecord } from "../../proto/record.js";
import { ConflictError, type ConnectionsBucket } from "../../proto/store/index.js";
import type { Holder, Leads } from "../protocols/index.js";

/** The watch is hardly ever that much behind; then it is for the caller to look again. */
const REACHED_MS = 2_000;

interface Lead {
  id: string;
  revision: number;
}

/** Who leads what, as the store's watch says. */
export class LeadTable implements Leads {
  private readonly leads = new Map<string, Lead>();
  private readonly watchers = new Map<string, Set<() => void>>();

  /**
   * @param commit as ConnectionsBucket.commitLead
   * @param recordOf as the watch has last seen it; undefined: there is none
   */
  constructor(
    private readonly commit: ConnectionsBucket["commitLead"],
    private readonly recordOf: (id: string) => Uint8Array | undefined,
  ) {}

  holder(name: string): Holder | undefined {
    const lead = this.leads.get(name);
    if (!lead) return undefined;
    const section = (layer: string) => {
      const bytes = this.recordOf(lead.id);
      return bytes && decodeRecord(bytes).layers.find((one) => one.layer === layer);
    };
    return { ...lead, section };
  }

  async take(name: string, id: string, seen: number): Promise<boolean> {
    try {
      this.seen(name, await this.commit(name, id, seen), id);
      return true;
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      await this.reached(name, error.present.revision);
      return false;
    }
  }

  /** What the store has told about the holder it tells about its record, too, but in its order. */
  private reached(name: string, revision: number): Promise<void> {
    const isReached = () => (this.leads.get(name)?.revision ?? 0) >= revision;
    if (isReached()) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        watching.close();
        resolve();
      };
      const timer = setTimeout(done, REACHED_MS);
      const watching = this.watch(name, () => isReached() && done());
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
