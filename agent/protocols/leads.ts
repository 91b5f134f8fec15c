import type { LayerSection } from "../../proto/record.js";

/** Who leads, as far as this server has seen. */
export interface Holder {
  /** Id of its control connection. */
  id: string;
  /** To be given to `take`. */
  revision: number;
  /** What its record says, as far as this server has seen; none: the connection is over. Throws RECORD_INVALID. */
  sections(): LayerSection[];
}

/**
 * What one bundle of a site does for many: to send to a multicast group, for instance. Whoever wants the lead says so in its record first, and
 * then takes it, from a holder whose record, as the store has it then, does not say so; whoever has let go of it says that in its record, or has none
 * any more. So there are never two that lead, and whose server dies goes on leading where it is taken over.
 */
export interface Leads {
  /** undefined: nobody ever had it. */
  holder(name: string): Holder | undefined;
  /**
   * Takes it for the bundle, whose record is committed as one that leads.
   * @param seen revision of the holder that was seen to lead no longer, or to be the bundle itself; 0 where there was none
   * @param leads whether a record with these sections says that its bundle leads: what was seen may be behind
   * @returns false: it leads still, or somebody else was faster. Rejects with a BatonError of the store; then it may have succeeded
   */
  take(name: string, id: string, seen: number, leads: (sections: LayerSection[]) => boolean): Promise<boolean>;
  /** Calls whenever the holder is another one, or has another record. */
  watch(name: string, changed: () => void): { close(): void };
}
