import type { Flow } from "../../proto/flow.js";

/** A server as the appliance's tables know it. */
export interface Member {
  id: string;
  slot: number;
  generation: number;
  mac: Buffer;
}

export type SlotState = "down" | "up" | "draining" | "held" | "takeover";

/** What came of releasing a flow: packets that had been held for it, and for how long. */
export interface Released {
  packets: number;
  heldUs: number;
}

/** What the appliance saw last of a flow. */
export interface Seen {
  /** Owner's slot in the cache. */
  slot: number;
  ack: number;
  seq: number;
  tsval: number;
  tsecr: number;
  window: number;
  syn: { isn: number; mss: number; windowScale: number | undefined; sack: boolean; timestamps: boolean } | undefined;
}

export interface HeldFlow {
  flow: Flow;
  packets: number;
  /** First and latest frame, from the Ethernet header on. */
  first: Buffer;
  last: Buffer;
}

/** The packet path as decisions see it; controller/steering is the real one. */
export interface Appliance {
  setServer(member: Member, state: SlotState): void;
  /** As last set, also by an earlier controller. */
  slotState(slot: number): SlotState;
  /** @param main who gets flows; @param heirs who takes over and gets new flows of those that are held. */
  setTables(main: Member[], heirs: Member[]): void;
  putExceptions(items: Array<{ flow: Flow; member: Member }>): void;
  removeExceptions(flows: Flow[]): void;
  exceptions(): Flow[];
  /** Holds one flow of a living server, at most for so long: then its packets go to that owner. Throws where it is held already. */
  hold(flow: Flow, owner: Member, forMs: number): void;
  /** Flows that are being held one by one, with the owner as committed when that began; not those that are held with their server. */
  holding(): Array<{ flow: Flow; slot: number }>;
  /**
   * Points flows at their owners and sends them what was held, in order. What cannot be sent in time is thrown away and
   * counted: the client repeats it.
   */
  assign(items: Array<{ flow: Flow; member: Member }>): Promise<Released[]>;
  /** Throws away what is held for a flow. */
  drop(flow: Flow): void;
  /** The appliance's tables name the owner now: stragglers of a hold are no longer forwarded on their own. */
  forget(flow: Flow): void;
  held(): HeldFlow[];
  seen(flow: Flow): Seen | undefined;
  /** A whole frame, out of the interface. */
  send(frame: Buffer): void;
  /** A whole IP packet, to where routes lead. Throws where there is no way. */
  sendToClient(packet: Buffer): void;
}
