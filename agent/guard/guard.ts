import { existsSync } from "node:fs";
import {
  type Binding,
  BindingError,
  type BpfMap,
  type BpfProgram,
  binding as realBinding,
} from "../../bpf/binding/index.js";
import {
  decodeGuardChange,
  decodeGuardEvent,
  decodeGuarded,
  decodeGuardSweep,
  decodeLease,
  encodeGuardChange,
  encodeGuarded,
  encodeGuardSweep,
  encodeLease,
  encodeMac,
  type GuardCensus,
  type GuardChange,
  type GuardEntry,
  type GuardEventFields,
  type GuardLease,
  type GuardPhase,
  guardFlag,
} from "../../bpf/guard_layout.js";
import { flowFromKey, flowKey, serviceEntry } from "../../bpf/layout.js";
import { replaceEntries } from "../../bpf/replace_entries.js";
import { guardVerdicts } from "../../bpf/vocabulary.js";
import type { ServicePort } from "../../proto/config/index.js";
import { BatonError } from "../../proto/errors.js";
import { address16, type Flow, flowText } from "../../proto/flow.js";
import { bpfObject } from "../../proto/paths.js";
import { type NewEntry, wholeEntry } from "./entry.js";
import { type links, makeFolder, maps, pinPath, pinProgram, programs, removePins } from "./pins.js";

const BPF_NOEXIST = 1;
const ONE = Buffer.from([1, 0, 0, 0]);
const FIRST = Buffer.alloc(4);
/** Of the table; the rest is for connections that are taken over, or arrive. */
const BIRTHS_SHARE = 0.95;

/** With so many entries in a table for `flows` no handshake is begun. */
function birthsMax(flows: number): number {
  return Math.max(1, Math.floor(flows * BIRTHS_SHARE));
}

export interface GuardOptions {
  /** The server's interface: every packet of a VIP enters and leaves here. */
  interface: string;
  /** Folder in bpffs. */
  pins: string;
  /** Folder of the agent's cgroup (v2): listeners created by its members get entries for their connections. */
  cgroup: string;
  vips: string[];
  services: ServicePort[];
  /** Connections at most. With nineteen twentieths of them new ones are turned away: their clients try again, elsewhere by then. */
  flows: number;
  /** A clamp that lasts longer shuts the window, milliseconds; 100 if left out. */
  clampShutMs?: number;
}

export type GuardEvent = GuardEventFields & { flow: Flow };

/**
 * The guard in the kernel, seen from user space. The supervisor loads it and holds the lease; the worker opens it by its
 * pins. It outlives both: whoever comes next adopts its entries.
 */
export class Guard {
  readonly #binding: Binding;
  readonly #maps: Record<(typeof maps)[number], BpfMap>;
  readonly #change: BpfProgram;
  readonly #sweep: BpfProgram;
  readonly #used: BpfProgram;

  private constructor(pins: string, binding: Binding) {
    this.#binding = binding;
    if (!existsSync(pinPath(pins, "flows"))) {
      throw new BatonError("BPF_FAILED", `no guard is loaded: there are no pins in ${pins}`);
    }
    const open = maps.map((name) => [name, binding.openPinnedMap(pinPath(pins, name))] as const);
    this.#maps = Object.fromEntries(open) as Record<(typeof maps)[number], BpfMap>;
    this.#change = binding.openPinnedProgram(pinPath(pins, "guard_change"));
    this.#sweep = binding.openPinnedProgram(pinPath(pins, "guard_sweep"));
    this.#used = binding.openPinnedProgram(pinPath(pins, "guard_used"));
  }

  /**
   * Loads, pins and attaches in this process' network namespace. Where a guard is pinned already its maps and entries
   * are adopted and its programs replaced under way, without a gap. Until the first lease nothing of a VIP leaves.
   * Throws BindingError; EEXIST if what is pinned does not fit (another version or another number of flows: unload first).
   */
  static load(options: GuardOptions, binding: Binding = realBinding): Guard {
    makeFolder(options.pins);
    const object = binding.load(bpfObject("guard"), {
      rodata: {
        netns_inode: binding.netnsInode(),
        clamp_shut_ns: BigInt(options.clampShutMs ?? 100) * 1_000_000n,
        births_max: birthsMax(options.flows),
      },
      pinDir: options.pins,
      pinMaps: [...maps],
      maxEntries: { flows: options.flows },
    });
    try {
      replaceKeys(object.map("vips"), options.vips.map(address16));
      replaceEntries(object.map("services"), options.services.map(serviceEntry));
      for (const name of programs) pinProgram(object.program(name), options.pins, name);
      const pin = (name: (typeof links)[number]) => ({ pin: pinPath(options.pins, name) });
      // Egress first: at no moment may the stack's answers leave unguarded.
      for (const link of [
        object.program("guard_egress").attachTc(options.interface, "egress", pin("link_egress")),
        object.program("guard_silence").attachTracing(pin("link_silence")),
        object.program("guard_birth").attachCgroup(options.cgroup, pin("link_birth")),
        object.program("guard_ingress").attachXdp(options.interface, pin("link_ingress")),
      ]) {
        link.close(); // the pin alone holds it, so that removing the pin ends it
      }
    } finally {
      object.close();
    }
    return new Guard(options.pins, binding);
  }

  /** Opens what a supervisor has loaded. Throws BPF_FAILED if there is nothing. */
  static open(pins: string, binding: Binding = realBinding): Guard {
    return new Guard(pins, binding);
  }

  /** Detaches and removes everything. Connections of the VIPs are then unprotected and, if their agent is gone, reset. */
  static unload(pins: string): void {
    removePins(pins);
  }

  /**
   * From now on egress passes until `untilNs` (CLOCK_MONOTONIC), for entries of this incarnation. A new incarnation goes
   * in two steps, so that no packet ever sees the new time with the old number.
   */
  writeLease(lease: GuardLease): void {
    if (this.lease().incarnation !== lease.incarnation) {
      this.#maps.lease.update(FIRST, encodeLease({ untilNs: 0n, incarnation: lease.incarnation, unfenced: false }));
    }
    this.#maps.lease.update(FIRST, encodeLease(lease));
  }

  lease(): GuardLease {
    const bytes = this.#maps.lease.lookup(FIRST);
    if (!bytes) throw new BatonError("INTERNAL", "the guard's lease map is empty");
    return decodeLease(bytes);
  }

  /** Nothing of a VIP leaves any more, from the next packet on. */
  fence(): void {
    this.#maps.lease.update(
      FIRST,
      encodeLease({ untilNs: 0n, incarnation: this.lease().incarnation, unfenced: false }),
    );
  }

  /** Where frames go that belong to no connection here: to the appliance they came from, or to `wayBack` (the first). */
  setAppliances(macs: string[], wayBack: string | undefined = macs[0]): void {
    replaceKeys(
      this.#maps.appliances,
      macs.map((mac) => encodeMac(mac, 0)),
    );
    this.#maps.way_back.update(FIRST, wayBack === undefined ? Buffer.alloc(8) : encodeMac(wayBack, 1));
  }

  /**
   * Makes the entry of a connection that is being rebuilt here. One that is over or of an earlier incarnation is
   * replaced; a living one is not: throws PROTOCOL_VIOLATED. Throws LIMIT_REACHED if the table is full.
   */
  install(flow: Flow, entry: NewEntry): void {
    const key = flowKey(flow);
    const value = encodeGuarded(wholeEntry(entry, this.#binding.monotonicNs(), guardFlag.FIN_COMMITTED));
    if (this.#create(key, value, flow)) return;
    const there = this.lookup(flow);
    if (there && there.incarnation === entry.incarnation && there.phase !== "SILENT" && there.phase !== "ENDED") {
      throw new BatonError("PROTOCOL_VIOLATED", `${flowText(flow)} is already guarded here, in phase ${there.phase}`);
    }
    this.#maps.flows.delete(key);
    if (!this.#create(key, value, flow)) {
      throw new BatonError("PROTOCOL_VIOLATED", `${flowText(flow)} became guarded here by somebody else`);
    }
  }

  /**
   * Makes the entry of a flow of datagrams, which belongs to a control connection of this server. While it is LIVE datagrams pass in both
   * directions; FROZEN ones that come go back to the appliance. Throws as `install`.
   * @param flow transport udp; the client is the group where it is multicast
   */
  installDatagram(flow: Flow, phase: GuardPhase, incarnation: number): void {
    const nothing = { clientIsn: 0, serverIsn: 0, consumed: 0, sendNext: 0 };
    this.install(flow, { ...nothing, phase, incarnation });
  }

  /** Changes a living entry. @returns the entry as it is afterwards, undefined if there is none */
  change(flow: Flow, change: GuardChange): GuardEntry | undefined {
    const { contextOut } = this.#change.testRun({ context: encodeGuardChange(flowKey(flow), change) });
    if (!contextOut) throw new BatonError("BPF_FAILED", "guard_change gave nothing back");
    return decodeGuardChange(contextOut);
  }

  /** Many changes, one system call each (about 10 µs with its crossing), in order. */
  changeAll(changes: Iterable<{ flow: Flow; change: GuardChange }>): Array<GuardEntry | undefined> {
    return Array.from(changes, ({ flow, change }) => this.change(flow, change));
  }

  lookup(flow: Flow): GuardEntry | undefined {
    const bytes = this.#maps.flows.lookup(flowKey(flow));
    return bytes && decodeGuarded(bytes);
  }

  /** Removes an entry whatever its phase; from then on nothing of the flow leaves. @returns whether there was one */
  remove(flow: Flow): boolean {
    return this.#maps.flows.delete(flowKey(flow));
  }

  /** Entries in the table, how many there can be, and whether a new connection finds room. Cheap. */
  room(): { used: number; capacity: number; forBirths: boolean } {
    const capacity = this.#maps.flows.maxEntries;
    const used = this.#used.testRun({}).retval;
    return { used, capacity, forBirths: used < birthsMax(capacity) };
  }

  entries(): Array<{ flow: Flow; entry: GuardEntry }> {
    return this.#maps.flows.entries().map(([key, value]) => ({ flow: flowFromKey(key), entry: decodeGuarded(value) }));
  }

  /** Removes entries that are over (ENDED, SILENT, of an earlier incarnation) and sent nothing for this long. */
  sweep(olderThanSeconds: number): GuardCensus {
    return this.#runSweep(this.#binding.monotonicNs() - BigInt(Math.round(olderThanSeconds * 1e9)));
  }

  /** Counts entries, removes none. */
  census(): GuardCensus {
    return this.#runSweep(0n);
  }

  /** Calls back for every report, in order. One consumer only: the worker. */
  events(onEvent: (event: GuardEvent) => void): { close(): void } {
    return this.#binding.ringBuffer(this.#maps.guard_events, (record) =>
      onEvent({ ...decodeGuardEvent(record), flow: flowFromKey(record) }),
    );
  }

  /** Packets by verdict since the load, named as in bpf/vocabulary.ts. */
  verdicts(): Record<string, number> {
    const counters: Record<string, number> = {};
    const index = Buffer.alloc(4);
    for (const [number, name] of guardVerdicts.entries()) {
      index.writeUInt32LE(number);
      const perCpu = this.#maps.guard_verdicts.lookup(index) ?? Buffer.alloc(0);
      let sum = 0n;
      for (let at = 0; at < perCpu.length; at += 8) sum += perCpu.readBigUInt64LE(at);
      counters[name] = Number(sum);
    }
    return counters;
  }

  close(): void {
    for (const map of Object.values(this.#maps)) map.close();
  }

  /** @returns whether it was made; false: there is one */
  #create(key: Buffer, value: Buffer, flow: Flow): boolean {
    try {
      this.#maps.flows.update(key, value, BPF_NOEXIST);
      return true;
    } catch (error) {
      if (!(error instanceof BindingError)) throw error;
      if (error.code === "EEXIST") return false;
      if (error.code !== "E2BIG") throw error;
      throw new BatonError("LIMIT_REACHED", `no room for ${flowText(flow)} in the guard's table`, error);
    }
  }

  #runSweep(beforeNs: bigint): GuardCensus {
    const { contextOut } = this.#sweep.testRun({ context: encodeGuardSweep(beforeNs > 0n ? beforeNs : 0n) });
    if (!contextOut) throw new BatonError("BPF_FAILED", "guard_sweep gave nothing back");
    return decodeGuardSweep(contextOut);
  }
}

function replaceKeys(map: BpfMap, keys: Buffer[]): void {
  replaceEntries(
    map,
    keys.map((key) => [key, ONE] as const),
  );
}
