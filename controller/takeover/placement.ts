import { flowHash, MAGLEV_SIZE, maglevTable } from "../../bpf/maglev.js";
import { type Flow, flowKey } from "../../proto/flow.js";
import type { ConnectionEntry, ConnectionIndex } from "../connections/index.js";
import type { Appliance, Member } from "./appliance.js";

/** Tables are made ahead of a death in clusters of up to this many servers; a table takes some milliseconds. */
const FORESEEN_MAX = 32;

/**
 * Who gets which flow: Maglev over the members, and exceptions for the flows that live elsewhere. Related flows have neither: the packet
 * path takes them for their control connections, and whatever is said of them here is of no effect. Exceptions for a new table
 * are in place before the table is; those that it makes needless go after it.
 */
export class Placement {
  private main: Member[] = [];
  private table: Uint16Array = new Uint16Array();
  private readonly excepted = new Map<string, Flow>();
  /** Flows on the move, by key: their entries in the appliance's tables say that they are held, and stay as they are. */
  private readonly moving = new Set<string>();

  constructor(
    private readonly appliance: Appliance,
    private readonly index: ConnectionIndex,
    /** Whose slot a record's packets belong to; nobody's while an earlier life of its server is being taken over. */
    private readonly ownerOf: (entry: ConnectionEntry) => Member | undefined,
    /** A member without room gets no new flows; those that it has stay. */
    private readonly hasRoom: (id: string) => boolean = () => true,
  ) {}

  /**
   * What an earlier controller left in the appliance's tables; the next change keeps what is still needed.
   * @param held for moves that it did not end.
   */
  adopt(exceptions: Flow[], held: Flow[] = []): void {
    for (const flow of exceptions) this.excepted.set(flowKey(flow), flow);
    for (const flow of held) this.moving.add(flowKey(flow));
  }

  /** The flow is about to move: its packets are held, whoever joins or dies meanwhile. Ends with `settled`, `moved` or `letGo`. */
  hold(flow: Flow, owner: Member, forMs: number): void {
    if (this.isRelated(flow)) return;
    this.appliance.hold(flow, owner, forMs);
    this.moving.add(flowKey(flow));
  }

  /** Nobody moves the flow any more; where it is to go is decided elsewhere. */
  letGo(flow: Flow): void {
    this.moving.delete(flowKey(flow));
  }

  /** @param main take part in Maglev, where they have room; @param heirs as Appliance.setTables. Both in any order. */
  change(main: Member[], heirs: Member[]): void {
    const roomy = main.filter(({ id }) => this.hasRoom(id));
    const sorted = (roomy.length > 0 ? roomy : [...main]).sort(byId);
    const table = maglevTable(sorted.map(({ id }) => id));
    const needed: Array<{ flow: Flow; member: Member }> = [];
    const needless: Flow[] = [];
    for (const entry of this.index.entries()) {
      if (entry.isRelated) continue;
      const owner = this.ownerOf(entry);
      if (!owner) continue;
      const { key } = entry;
      if (this.moving.has(key)) continue;
      if (pick(sorted, table, entry.flowHash)?.id === owner.id) {
        if (this.excepted.delete(key)) needless.push(entry.flow());
      } else if (!this.excepted.has(key)) {
        const flow = entry.flow();
        this.excepted.set(key, flow);
        needed.push({ flow, member: owner });
      }
    }
    for (const [key, flow] of this.excepted) {
      if (this.index.ofFlow(flow) || this.moving.has(key)) continue;
      this.excepted.delete(key);
      needless.push(flow);
    }
    if (needed.length > 0) this.appliance.putExceptions(needed);
    this.main = sorted;
    this.table = table;
    this.appliance.setTables(sorted, [...heirs].sort(byId));
    if (needless.length > 0) this.appliance.removeExceptions(needless);
    setImmediate(() => foresee(heirs.map(({ id }) => id)));
  }

  /** These flows live at these members now, whatever Maglev says. */
  moved(items: Array<{ flow: Flow; member: Member }>): void {
    const own = items.filter(({ flow }) => !this.isRelated(flow));
    if (own.length > 0) this.appliance.putExceptions(own);
    for (const { flow } of own) {
      this.moving.delete(flowKey(flow));
      this.excepted.set(flowKey(flow), flow);
    }
  }

  /** A flow whose owner may be the one that Maglev names: an exception only where it is not. */
  settled(flow: Flow, member: Member): void {
    if (this.isRelated(flow)) return;
    if (this.homeOf(flow)?.id !== member.id) {
      this.moved([{ flow, member }]);
    } else {
      this.moving.delete(flowKey(flow));
      this.excepted.delete(flowKey(flow));
      this.appliance.removeExceptions([flow]);
    }
  }

  /**
   * The flow lives there, and others go where exceptions and Maglev say that it does. Its packets may have taught that a table which was made
   * before its record was seen says otherwise.
   */
  confirm(flow: Flow, member: Member): void {
    const key = flowKey(flow);
    if (this.moving.has(key) || this.excepted.has(key)) return;
    if (this.homeOf(flow)?.id !== member.id) this.moved([{ flow, member }]);
  }

  /** The connection is over. */
  ended(entry: ConnectionEntry): void {
    this.moving.delete(entry.key);
    if (this.excepted.delete(entry.key)) this.appliance.removeExceptions([entry.flow()]);
  }

  /** Where Maglev sends a flow. */
  homeOf(flow: Flow): Member | undefined {
    return pick(this.main, this.table, flowHash(flow));
  }

  private isRelated(flow: Flow): boolean {
    return this.index.ofFlow(flow)?.isRelated ?? false;
  }

  get exceptions(): number {
    return this.excepted.size;
  }
}

/** Any one of these may die next: the tables without it are made now, while nobody waits for them. */
function foresee(ids: string[]): void {
  const sorted = [...ids].sort();
  for (const dead of sorted.length <= FORESEEN_MAX ? sorted : []) maglevTable(sorted.filter((id) => id !== dead));
}

/** Who inherits a flow: the same computation as every survivor's. */
export function heirOf(flow: Flow, survivors: Member[], table: Uint16Array): Member | undefined {
  return pick(survivors, table, flowHash(flow));
}

function pick(members: Member[], table: Uint16Array, hash: number): Member | undefined {
  return members.length === 0 ? undefined : members[table[hash % MAGLEV_SIZE] ?? 0];
}

function byId(a: Member, b: Member): number {
  return a.id < b.id ? -1 : 1;
}
