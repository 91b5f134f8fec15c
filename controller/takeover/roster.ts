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
  ) {}

  met(server: string, mac: Buffer): void {
    this.macs.set(server, Buffer.from(mac));
  }

  member(id: string): Member | undefined {
    const member = this.membership.member(id);
    if (!member || member.slot === 0) return undefined;
    const mac = this.macs.get(id) ?? this.sessions.get(id)?.hello.mac ?? Buffer.alloc(6);
    return { id, slot: member.slot, generation: member.generation, mac };
  }

  ofSlot(slot: number): Member | undefined {
    const found = this.membership.members().find((member) => member.slot === slot);
    return found && this.member(found.id);
  }

  /** UP, with its lease held and its agent connected. */
  living(): Member[] {
    const able = new Set(this.membership.heirs());
    return this.membership
      .members()
      .filter(({ id, state }) => state === "UP" && able.has(id))
      .flatMap(({ id }) => this.member(id) ?? []);
  }

  /** Whether the server's slot still belongs to this incarnation: no successor has been let in. */
  holds(server: string, incarnation: number): boolean {
    const member = this.membership.member(server);
    if (!member) return false;
    return member.incarnation <= incarnation || member.state !== "UP";
  }
}
