import type { BpfMap } from "../../bpf/binding/index.js";
import {
  type Control,
  decodeException,
  decodeRecent,
  decodeRelated,
  decodeServer,
  encodeException,
  encodeHold,
  encodeRelated,
  encodeServer,
  flowFromKey,
  flowKey,
  indexKey,
  MAGLEV_BYTES,
  macKey,
  maglevLayout,
  RECENT_BYTES,
  type Server,
  type Syn,
  serviceEntry,
} from "../../bpf/layout.js";
import { flowHashOfKey, MAGLEV_SIZE, maglevTable } from "../../bpf/maglev.js";
import { replaceEntries } from "../../bpf/replace_entries.js";
import { type ServerState, type SteerVerdict, steerVerdicts } from "../../bpf/vocabulary.js";
import type { ServicePort } from "../../proto/config/index.js";
import { BatonError } from "../../proto/errors.js";
import type { Flow } from "../../proto/flow.js";
import { address16 } from "../../proto/flow.js";
import { ExceptionFilter } from "./filter.js";

/** The maps of steer.bpf.c that outlive a controller; steer_maps.h says what each is for. */
export const steerMaps = [
  "servers",
  "server_macs",
  "maglev",
  "services",
  "related",
  "recent",
  "exceptions",
  "exceptions_filter",
  "holds",
  "held_packets",
  "verdicts",
] as const;
export type SteerMaps = Record<(typeof steerMaps)[number], BpfMap>;

const BPF_NOEXIST = 1;
const RECENT_SETS = 2 ** 18;

/** A server in a Maglev table: the name decides, the slot is what the packet path knows it by. */
export interface TableMember {
  name: string;
  slot: number;
}

/** Where a flow lives. */
export interface Owner {
  slot: number;
  generation: number;
}

/** What the appliance saw last of a flow: to prepare by, never to decide by. */
export interface Hints extends Owner {
  ack: number;
  /** End of the client's last segment. */
  seq: number;
  /** 0, 0 without timestamps. */
  tsval: number;
  tsecr: number;
  /** As on the wire. */
  window: number;
  /** The SYN of the connection, or of the handshake that is under way. */
  syn: Syn | undefined;
}

/** The control plane's side of the packet path's tables. One writer: the controller of this appliance. */
export class Tables {
  private readonly filter = new ExceptionFilter();
  /** Flows in `exceptions`, by the bytes of their keys. */
  private readonly excepted = new Map<string, Owner>();
  private readonly servers = new Map<number, Server>();
  private maglev: Buffer = Buffer.alloc(0);

  constructor(private readonly maps: SteerMaps) {}

  /**
   * Takes over what an earlier controller left: exceptions and their filter, and servers as it set them last. Those and tables are
   * to be set anew.
   */
  adopt(): void {
    for (const [key, value] of this.maps.servers.entries()) {
      const server = decodeServer(value);
      if (server.generation > 0) this.servers.set(key.readUInt32LE(0), server);
    }
    for (const [key, value] of this.maps.exceptions.entries()) {
      const { slot, generation } = decodeException(value);
      this.excepted.set(key.toString("latin1"), { slot, generation });
      this.filter.add(flowHashOfKey(key));
    }
    this.writeFilter();
  }

  /** Exactly these take part from now on. */
  setServices(services: ServicePort[]): void {
    replaceEntries(this.maps.services, services.map(serviceEntry));
  }

  setServer(slot: number, server: Server): void {
    const before = this.servers.get(slot);
    if (before && !before.mac.equals(server.mac)) this.maps.server_macs.delete(macKey(before.mac));
    this.servers.set(slot, { ...server, mac: Buffer.from(server.mac) });
    this.maps.server_macs.update(macKey(server.mac), indexKey(slot));
    this.maps.servers.update(indexKey(slot), encodeServer(server));
  }

  /** The state of a slot as last set; one that was never set is down. */
  stateOf(slot: number): ServerState {
    return this.servers.get(slot)?.state ?? "down";
  }

  macOf(slot: number): Buffer | undefined {
    return this.servers.get(slot)?.mac;
  }

  /** Whether the flow is held for a migration, by this controller or an earlier one. */
  isMoving(key: Buffer): boolean {
    const value = this.maps.exceptions.lookup(key);
    return value !== undefined && decodeException(value).hold;
  }

  /** As last set. Throws NOT_FOUND. */
  server(slot: number): Server {
    const server = this.servers.get(slot);
    if (!server) throw new BatonError("NOT_FOUND", `no server has slot ${slot}`);
    return server;
  }

  /** @param main who gets flows; @param heirs who takes over, and gets the new flows of those that are held. */
  setTables(main: TableMember[], heirs: TableMember[]): void {
    const next = maglevElements(main, heirs);
    const { keys, values } = changedElements(this.maglev, next);
    if (keys.length > 0) this.maps.maglev.updateBatch(keys, values);
    this.maglev = next;
  }

  /** These flows live there, whatever Maglev says. Throws LIMIT_REACHED when the table is full. */
  putExceptions(items: Array<{ flow: Flow } & Owner>): void {
    this.write(items.map(({ flow, slot, generation }) => ({ key: flowKey(flow), slot, generation, hold: false })));
  }

  private write(items: Array<{ key: Buffer; hold: boolean } & Owner>): void {
    if (items.length === 0) return;
    try {
      this.maps.exceptions.updateBatch(
        Buffer.concat(items.map(({ key }) => key)),
        Buffer.concat(items.map((item) => encodeException(item))),
      );
    } catch (error) {
      if ((error as { code?: string }).code !== "E2BIG") throw error;
      throw new BatonError(
        "LIMIT_REACHED",
        `the appliance's table of ${this.maps.exceptions.maxEntries} moved flows is full`,
        error,
      );
    }
    for (const { key, slot, generation } of items) {
      const name = key.toString("latin1");
      if (!this.excepted.has(name)) this.filter.add(flowHashOfKey(key));
      this.excepted.set(name, { slot, generation });
    }
    this.writeFilter();
  }

  removeExceptions(flows: Flow[]): void {
    const keys = flows.map(flowKey).filter((key) => this.excepted.delete(key.toString("latin1")));
    if (keys.length === 0) return;
    this.maps.exceptions.deleteBatch(Buffer.concat(keys));
    for (const key of keys) this.filter.remove(flowHashOfKey(key));
    this.writeFilter();
  }

  exceptions(): Array<{ flow: Flow } & Owner> {
    return [...this.excepted].map(([key, owner]) => ({ flow: flowFromKey(Buffer.from(key, "latin1")), ...owner }));
  }

  /**
   * Packets of the flow go where its control connection's go. @param flow its client port is 0 where any will do.
   * Throws LIMIT_REACHED when the table is full.
   */
  relate(flow: Flow, control: Control): void {
    try {
      this.maps.related.update(flowKey(flow), encodeRelated(control));
    } catch (error) {
      if ((error as { code?: string }).code !== "E2BIG") throw error;
      const { maxEntries } = this.maps.related;
      throw new BatonError("LIMIT_REACHED", `the appliance's table of ${maxEntries} related flows is full`, error);
    }
  }

  unrelate(flow: Flow): void {
    this.maps.related.delete(flowKey(flow));
  }

  relations(): Array<{ flow: Flow; control: Control }> {
    return this.maps.related
      .entries()
      .map(([key, value]) => ({ flow: flowFromKey(key), control: decodeRelated(value) }));
  }

  private writeFilter(): void {
    const { keys, values } = this.filter.takeChanges();
    if (keys.length > 0) this.maps.exceptions_filter.updateBatch(keys, values);
  }

  /**
   * From now on every packet of the flow is held, until it is assigned or `deadlineNs` (CLOCK_MONOTONIC) is past: then it goes
   * to `owner`, whose flow it is committed to be. For migrations. Throws PROTOCOL_VIOLATED if it is held already.
   */
  beginHold(flow: Flow, owner: Owner, deadlineNs: bigint): void {
    const key = flowKey(flow);
    try {
      this.maps.holds.update(key, encodeHold({ deadlineNs, slot: owner.slot }), BPF_NOEXIST);
    } catch (error) {
      const { code } = error as { code?: string };
      if (code === "EEXIST") throw new BatonError("PROTOCOL_VIOLATED", "the flow is held already", error);
      if (code === "E2BIG") throw new BatonError("LIMIT_REACHED", "the appliance's table of held flows is full", error);
      throw error;
    }
    this.write([{ key, ...owner, hold: true }]);
  }

  /** What the cache knows of a flow. */
  hintsOf(flow: Flow): Hints | undefined {
    const key = flowKey(flow);
    const set = this.maps.recent.lookup(indexKey(flowHashOfKey(key) % RECENT_SETS)) ?? Buffer.alloc(0);
    const lines = [...Array(set.length / RECENT_BYTES)].map((_, way) => decodeRecent(set.subarray(way * RECENT_BYTES)));
    const client = address16(flow.client.address);
    const line = lines.find(
      ({ slot, client: other, clientPort, vipPort }) =>
        slot !== 0 && clientPort === flow.client.port && vipPort === flow.vip.port && other.equals(client),
    );
    if (!line) return undefined;
    const { slot, generation, ack, seq, tsval, tsecr, window } = line;
    const syn = line.syn ?? (line.tentative ? line.newSyn : undefined);
    return { slot, generation, ack, seq, tsval, tsecr, window, syn };
  }

  /** Packets by verdict since the maps were made. */
  verdicts(): Record<SteerVerdict, number> {
    const perCpu = this.maps.verdicts.lookup(indexKey(0)) ?? Buffer.alloc(0);
    const counters = this.maps.verdicts.valueSize;
    const count = (verdict: number) => {
      let sum = 0;
      for (let at = verdict * 8; at < perCpu.length; at += counters) sum += Number(perCpu.readBigUInt64LE(at));
      return sum;
    };
    return Object.fromEntries(steerVerdicts.map((name, i) => [name, count(i)])) as Record<SteerVerdict, number>;
  }
}

/** Indexes and values of the elements of `next` that are not in `before`; all where `before` is empty. */
function changedElements(before: Buffer, next: Buffer): { keys: Buffer; values: Buffer } {
  const words = (bytes: Buffer) => new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const [old, now] = [words(before), words(next)];
  const keys = new Uint32Array(now.length / 2);
  const values = new Uint32Array(now.length);
  let count = 0;
  for (let i = 0; i < now.length; i += 2) {
    if (old.length > 0 && old[i] === now[i] && old[i + 1] === now[i + 1]) continue;
    keys[count] = i / 2;
    values[2 * count] = now[i] ?? 0;
    values[2 * count + 1] = now[i + 1] ?? 0;
    count++;
  }
  return { keys: Buffer.from(keys.buffer, 0, count * 4), values: Buffer.from(values.buffer, 0, count * 8) };
}

/** Both tables as struct baton_maglev; slot 0 where there is nobody. */
export function maglevElements(main: TableMember[], heirs: TableMember[]): Buffer {
  const halves = new Uint16Array(((MAGLEV_SIZE + 1) / 2) * (MAGLEV_BYTES / 2));
  for (const [members, offset] of [
    [main, maglevLayout.main],
    [heirs, maglevLayout.heir],
  ] as const) {
    const table = maglevTable(members.map(({ name }) => name));
    const slots = Uint16Array.from(members, ({ slot }) => slot);
    for (let position = 0; position < table.length; position++) {
      const at = (position >> 1) * (MAGLEV_BYTES / 2) + offset / 2 + (position & 1);
      halves[at] = slots[table[position] ?? 0] ?? 0;
    }
  }
  return Buffer.from(halves.buffer);
}
