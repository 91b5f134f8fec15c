import type { AgentSessions } from "../agents/index.js";
import type { Membership } from "../membership/index.js";
import type { Member } from "./appliance.js";

/** Servers as the packet path needs them: membership's slots with the addresses that agents have named. */
export class Roster {
  /** Known from the last greeting: a server that is dead needs none. */
  private readonly macs = new Map<string, Buffer>();

  constructor(
    private readonly membership: Membership,
    private readonly sessions: AgentSessions,
    /** As the packet path has it, from an earlier controller. */
    private readonly adopted: (slot: number) => Buffer | undefined,
  ) {}

  met(server: string, mac: Buffer): void {
    this.macs.set(server, Buffer.from(mac));
  }

  member(id: string): Member | undefined {
    const member = this.membership.member(id);
    if (!member || member.slot === 0) return undefined;
    const { slot, generation } = member;
    const mac = this.macs.get(id) ?? this.sessions.get(id)?.hello.mac ?? this.adopted(slot) ?? Buffer.alloc(6);
    return { id, slot, generation, mac };
  }

  ofSlot(slot: number): Member | undefined {
    const found = this.membership.members().find((member) => member.slot === slot);
    return found && this.member(found.id);
  }

  /** The server of a record, if its slot is that life's. */
  owner({ serverId, incarnation }: { serverId: string; incarnation: number }): Member | undefined {
    return this.holds(serverId, incarnation) ? this.member(serverId) : undefined;
  }

  /** UP, with its lease held and its agent connected: who gets new flows. */
  living(): Member[] {
    return this.able("UP");
  }

  /** Who takes over: those that are living. Where there is none, the connections are better at a server that drains than nowhere. */
  heirs(): Member[] {
    const living = this.living();
    return living.length > 0 ? living : this.able("DRAINING");
  }

  /** Whether it has flows, or may get them: UP or DRAINING, with its lease held and its agent connected. */
  serves(server: string): boolean {
    const state = this.membership.member(server)?.state;
    return (state === "UP" || state === "DRAINING") && this.returned(server);
  }

  /** What its slot is to be while nothing is wrong with it; undefined before it has joined. */
  slotState(server: string): "up" | "draining" | undefined {
    const state = this.membership.member(server)?.state;
    return state === "UP" ? "up" : state === "DRAINING" ? "draining" : undefined;
  }

  /** Whether its lease is held and its agent connected, whatever became of its earlier lives. */
  returned(server: string): boolean {
    return this.membership.heirs().includes(server);
  }

  /** Whether the server's slot belongs to this incarnation. */
  holds(server: string, incarnation: number): boolean {
    const member = this.membership.member(server);
    return member !== undefined && member.slot > 0 && member.incarnation === incarnation;
  }

  private able(wanted: "UP" | "DRAINING"): Member[] {
    const able = new Set(this.membership.heirs());
    return this.membership
      .members()
      .filter(({ id, state }) => state === wanted && able.has(id))
      .flatMap(({ id }) => this.member(id) ?? []);
  }
}
