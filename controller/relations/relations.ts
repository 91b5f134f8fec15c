import { BatonError } from "../../proto/errors.js";
import { connectionId, type Flow, parseConnectionId, type Transport } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import { type Relation, transportOfMessage } from "../../proto/rpc/index.js";
import type { ConnectionEntry, ConnectionIndex } from "../connections/index.js";
import { Places } from "./places.js";

const log = logger("relations");
/** The owner has just committed its record: our watch sees it within this time. */
const RECORD_MS = 500;
/** Flows of one bundle. */
const BUNDLE_MAX = 64;

/** The control connection of a related flow, as the packet path knows it. */
interface Control {
  clientPort: number;
  vipPort: number;
  clientIsn: number;
}

/** Where the packet path looks; controller/steering's Tables. */
export interface RelationTable {
  /** Throws LIMIT_REACHED. */
  relate(flow: Flow, control: Control): void;
  unrelate(flow: Flow): void;
  relations(): Array<{ flow: Flow; control: Control }>;
}

export interface RelationsDeps {
  table: RelationTable;
  index: Pick<ConnectionIndex, "get">;
  /** The control connection is where it is by exceptions or Maglev from now on, not by what its packets have taught alone. */
  confirm(control: ConnectionEntry): void;
  /** Whether the port is one of related flows. */
  isRelatedPort(port: number, transport: Transport): boolean;
}

/**
 * Flows that go where their control connections go. What is written here is all that there is to it: whose such a flow is follows from its
 * control connection alone, whoever moves or takes that over.
 */
export class Relations {
  private readonly places = new Places();
  /** Who waits for a record, by the connection's id. */
  private readonly awaited = new Map<string, Set<() => void>>();

  constructor(private readonly deps: RelationsDeps) {}

  /** Takes over what an earlier controller left in the packet path. */
  adopt(): void {
    for (const { flow, control } of this.deps.table.relations()) this.places.add(bundleOf(flow, control), flow);
  }

  /** The index holds every record that there is: what belongs to none is over. */
  dropOrphans(): void {
    for (const bundle of this.places.bundles()) if (!this.deps.index.get(bundle)) this.ended(bundle);
  }

  /**
   * All of them from now on, or none. Said again it changes nothing.
   * @param server who asks: only the bundle's owner may
   * @returns why not, a short fixed phrase; "": they are there
   */
  async relate(server: string, bundle: string, relations: Relation[]): Promise<string> {
    const why = await this.refusal(server, bundle);
    if (why !== "") return why;
    const flows = relations.map((relation) => flowOf(bundle, relation));
    if (!flows.every(({ vip, transport }) => this.deps.isRelatedPort(vip.port, transport))) return "no such port";
    const fresh = flows.filter((flow) => !this.places.has(bundle, flow));
    if (fresh.some((flow) => this.places.isTaken(bundle, flow))) return "taken";
    if (this.places.of(bundle).length + fresh.length > BUNDLE_MAX) return "too many flows of one connection";
    const control = this.deps.index.get(bundle);
    if (control) this.deps.confirm(control);
    return this.write(bundle, fresh);
  }

  private write(bundle: string, flows: Flow[]): string {
    const control = controlOf(bundle);
    for (const [done, flow] of flows.entries()) {
      try {
        this.deps.table.relate(flow, control);
      } catch (error) {
        if (!(error instanceof BatonError)) throw error;
        log.error({ err: error, bundle }, "flows cannot be related");
        for (const one of flows.slice(0, done)) this.remove(bundle, one);
        return "no room for more related flows";
      }
      this.places.add(bundle, flow);
    }
    return "";
  }

  private async refusal(server: string, bundle: string): Promise<string> {
    if (this.deps.index.get(bundle)?.serverId !== server) await this.record(server, bundle);
    const entry = this.deps.index.get(bundle);
    if (!entry) return "no such connection";
    if (entry.serverId !== server) return "another server owns the connection";
    return entry.bundleId === entry.id ? "" : "not a control connection";
  }

  /** Resolves when the server owns the connection as far as the index knows, or time is over. */
  private record(server: string, bundle: string): Promise<void> {
    return new Promise((resolve) => {
      const waiting = this.awaited.get(bundle) ?? new Set();
      this.awaited.set(bundle, waiting);
      const end = () => {
        clearTimeout(timer);
        waiting.delete(look);
        if (waiting.size === 0) this.awaited.delete(bundle);
        resolve();
      };
      const look = () => {
        if (this.deps.index.get(bundle)?.serverId === server) end();
      };
      const timer = setTimeout(end, RECORD_MS);
      waiting.add(look);
    });
  }

  /** The index has seen a record of this connection. */
  seen(id: string): void {
    for (const look of [...(this.awaited.get(id) ?? [])]) look();
  }

  /** @param server who says so: what another owns by now is left alone. @param relations none: all of the bundle */
  unrelate(server: string, bundle: string, relations: Relation[]): void {
    const owner = this.deps.index.get(bundle)?.serverId;
    if (owner !== undefined && owner !== server) return;
    const flows = relations.length > 0 ? relations.map((relation) => flowOf(bundle, relation)) : this.places.of(bundle);
    for (const flow of flows) this.remove(bundle, flow);
  }

  /** The connection is over: so is what went with it. */
  ended(id: string): void {
    for (const flow of this.places.of(id)) this.remove(id, flow);
  }

  private remove(bundle: string, flow: Flow): void {
    if (this.places.remove(bundle, flow)) this.deps.table.unrelate(flow);
  }

  /** Flows that go where others go. */
  get size(): number {
    return this.places.size;
  }
}

function flowOf(bundle: string, { transport, vipPort, clientPort }: Relation): Flow {
  const { client, vip } = parseConnectionId(bundle).flow;
  return {
    client: { ...client, port: clientPort },
    vip: { ...vip, port: vipPort },
    transport: transportOfMessage(transport),
  };
}

function controlOf(bundle: string): Control {
  const { flow, clientIsn } = parseConnectionId(bundle);
  return { clientPort: flow.client.port, vipPort: flow.vip.port, clientIsn };
}

function bundleOf({ client, vip }: Flow, { clientPort, vipPort, clientIsn }: Control): string {
  const flow: Flow = { client: { ...client, port: clientPort }, vip: { ...vip, port: vipPort }, transport: "tcp" };
  return connectionId(flow, clientIsn);
}
