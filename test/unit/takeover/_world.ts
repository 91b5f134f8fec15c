import type { ExecutionContext } from "ava";
import { ConnectionIndex } from "../../../controller/connections/index.js";
import type { NewEvent } from "../../../controller/events/log.js";
import type { Appliance, HeldFlow, Member, Released, SlotState } from "../../../controller/takeover/appliance.js";
import { TakeoverCoordinator } from "../../../controller/takeover/coordinator.js";
import { Placement } from "../../../controller/takeover/placement.js";
import { BatonError } from "../../../proto/errors.js";
import { connectionId, type Flow, flowKey } from "../../../proto/flow.js";
import { decodeTakeover, encodeRecord, type Takeover } from "../../../proto/record.js";
import { flowMessage, type TakeoverResult } from "../../../proto/rpc/index.js";
import { ConflictError } from "../../../proto/store/index.js";
import { exampleRecord } from "../../support/record.js";

interface Server {
  slot: number;
  incarnation: number;
  state: "UP" | "DRAINING" | "JOINING" | "HELD" | "TAKEOVER" | "DOWN";
  /** Lease and session of its latest life. */
  returned: boolean;
}

/** A packet path that only remembers. */
export class FakeAppliance implements Appliance {
  readonly said: string[] = [];
  readonly states = new Map<number, SlotState>();
  readonly excepted = new Map<string, number>();
  holds: HeldFlow[] = [];
  sent: Buffer[] = [];
  /** IP packets to clients. */
  told: Buffer[] = [];
  assigned: string[] = [];
  /** Thrown by the next calls. */
  failures: { assign?: Error; putExceptions?: Error; send?: Error } = {};

  setServer({ id, slot }: Member, state: SlotState): void {
    this.states.set(slot, state);
    this.said.push(`${id} ${state}`);
  }
  slotState(slot: number): SlotState {
    return this.states.get(slot) ?? "down";
  }
  setTables(main: Member[], heirs: Member[]): void {
    const names = (members: Member[]) => members.map(({ id }) => id).join(",");
    this.said.push(`tables ${names(main)}/${names(heirs)}`);
  }
  putExceptions(items: Array<{ flow: Flow; member: Member }>): void {
    if (this.failures.putExceptions) throw this.failures.putExceptions;
    for (const { flow, member } of items) this.excepted.set(flowKey(flow), member.slot);
  }
  removeExceptions(flows: Flow[]): void {
    for (const flow of flows) this.excepted.delete(flowKey(flow));
  }
  exceptions(): Flow[] {
    return [];
  }
  hold(): void {}
  holding() {
    return [];
  }
  async assign(items: Array<{ flow: Flow; member: Member }>): Promise<Released[]> {
    if (this.failures.assign) throw this.failures.assign;
    this.assigned.push(...items.map(({ member }) => member.id));
    return items.map(() => ({ packets: 1, heldUs: 5 }));
  }
  drop(): void {
    this.said.push("drop");
  }
  forget(): void {}
  held(): HeldFlow[] {
    return this.holds;
  }
  seen() {
    return undefined;
  }
  send(frame: Buffer): void {
    if (this.failures.send) throw this.failures.send;
    this.sent.push(frame);
  }
  sendToClient(packet: Buffer): void {
    this.told.push(packet);
  }
}

/** A coordinator among servers whose states a test sets, with a store of takeovers that it watches. */
export class World {
  readonly appliance = new FakeAppliance();
  readonly index = new ConnectionIndex();
  readonly placement = new Placement(this.appliance, this.index, ({ serverId, incarnation }) =>
    this.holds(serverId, incarnation) ? this.memberOf(serverId) : undefined,
  );
  readonly events: NewEvent[] = [];
  readonly documents = new Map<string, { takeover: Takeover | undefined; revision: number }>();
  readonly freed: string[] = [];
  /** Attempts to write a takeover, and how many of them from now on fail. */
  writes = 0;
  failures = 0;
  readonly fenced = new Set<string>();
  readonly coordinator: TakeoverCoordinator;
  private revision = 0;
  private port = 40_000;

  constructor(
    t: ExecutionContext,
    readonly servers: Record<string, Server>,
  ) {
    for (const { slot, state } of Object.values(servers)) {
      this.appliance.states.set(slot, state === "UP" ? "up" : state === "DRAINING" ? "draining" : "down");
    }
    this.coordinator = new TakeoverCoordinator({
      appliance: this.appliance,
      placement: this.placement,
      index: this.index,
      bucket: {
        commitTakeover: (server, incarnation, bytes, expected) =>
          this.write(`${server}.${incarnation}`, bytes, expected),
        removeTakeover: async (server, incarnation) => {
          this.documents.set(`${server}.${incarnation}`, { takeover: undefined, revision: ++this.revision });
          this.coordinator.removed(`${server}.${incarnation}`);
          return this.revision;
        },
      },
      events: { append: (event) => this.events.push(event) as never },
      strays: { look: () => {}, waiting: () => false },
      living: () => this.able("UP"),
      heirs: () => (this.able("UP").length > 0 ? this.able("UP") : this.able("DRAINING")),
      memberOf: (id) => this.memberOf(id),
      holds: (server, incarnation) => this.holds(server, incarnation),
      serves: (server) => ["UP", "DRAINING"].includes(this.servers[server]?.state ?? ""),
      returned: (server) => this.servers[server]?.returned ?? false,
      isFenced: (server, incarnation) => this.fenced.has(`${server}.${incarnation}`),
      began: (server) => this.set(server, { state: "TAKEOVER" }),
      freed: (server, closed) => {
        this.freed.push(`${server} ${closed}`);
        if (closed) this.set(server, { state: "DOWN" });
      },
    });
    t.teardown(() => this.coordinator.close());
  }

  set(server: string, change: Partial<Server>): void {
    Object.assign(this.servers[server] as Server, change);
  }

  memberOf(id: string): Member | undefined {
    const server = this.servers[id];
    return server && { id, slot: server.slot, generation: server.incarnation, mac: Buffer.alloc(6, server.slot) };
  }

  holds(server: string, incarnation: number): boolean {
    return this.servers[server]?.incarnation === incarnation;
  }

  /** Dies; its slot stays as it is. */
  die(server: string): void {
    const { incarnation } = this.servers[server] as Server;
    this.set(server, { state: "HELD", returned: false });
    this.fenced.add(`${server}.${incarnation}`);
    this.coordinator.fenced(this.memberOf(server) as Member, incarnation, "fenced");
  }

  /** @returns the connection's id */
  record(serverId: string, incarnation: number, id?: string): string {
    const flow: Flow = { ...exampleRecord().flow, client: { address: "10.77.0.10", port: this.port++ } };
    const name = id ?? connectionId(flow, 7);
    this.index.apply(
      name,
      ++this.revision,
      encodeRecord({ ...exampleRecord(), id: name, flow, serverId, incarnation }),
    );
    return name;
  }

  result(connectionId_: string, from: string): TakeoverResult {
    const flow = this.index.get(connectionId_)?.flow();
    const message = flow ? flowMessage(flow) : null;
    return {
      connectionId: connectionId_,
      flow: message,
      result: "ok",
      reason: "",
      phasesUs: { ready: 3 },
      epoch: 2,
      from,
    };
  }

  takeover(id: string): Takeover | undefined {
    return this.documents.get(id)?.takeover;
  }

  private able(state: Server["state"]): Member[] {
    const ids = Object.keys(this.servers).filter((id) => this.servers[id]?.state === state);
    return ids.flatMap((id) => this.memberOf(id) ?? []);
  }

  private async write(id: string, bytes: Uint8Array, expected: number): Promise<number> {
    this.writes++;
    if (this.failures > 0) {
      this.failures--;
      throw new BatonError("STORE_UNAVAILABLE", "the store is away");
    }
    const present = this.documents.get(id) ?? { takeover: undefined, revision: 0 };
    if (present.revision !== expected) {
      const removed = present.takeover === undefined && present.revision > 0;
      throw new ConflictError(id, expected, {
        revision: present.revision,
        bytes: Buffer.alloc(0),
        removed,
        messageId: "",
      });
    }
    const revision = ++this.revision;
    this.documents.set(id, { takeover: decodeTakeover(bytes), revision });
    setImmediate(() => this.coordinator.seen(bytes, revision));
    return revision;
  }
}
