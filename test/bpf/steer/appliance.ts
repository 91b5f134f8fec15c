import { setTimeout as sleep } from "node:timers/promises";
import { type Binding, type BpfObject, binding, type RingBuffer } from "../../../bpf/binding/index.js";
import {
  decodeHold,
  encodeHold,
  flowFromKey,
  flowKey,
  HELD_PACKET_BYTES,
  heldPacketLayout,
  RELEASE_BYTES,
  releaseLayout,
} from "../../../bpf/layout.js";
import { flowHash, MAGLEV_SIZE, maglevTable } from "../../../bpf/maglev.js";
import { type ServerState, steerVerdicts } from "../../../bpf/vocabulary.js";
import { steerRodata, type TableMember, Tables } from "../../../controller/steering/index.js";
import { type SteerMaps, steerMaps } from "../../../controller/steering/tables.js";
import type { Flow } from "../../../proto/flow.js";
import { bpfObject } from "../../../proto/paths.js";
import { macText } from "./frames.js";

export const VIP = "10.77.0.100";
export const VIP6 = "fd77::100";
export const OTHER_VIP = "10.77.0.200";
export const OWN_MAC = "02:00:00:00:00:01";
export const ACTION = { DROP: 1, PASS: 2, REDIRECT: 4 } as const;
export const MEMBERS: TableMember[] = [1, 2, 3].map((slot) => ({ name: `s${slot}`, slot }));
export const PACKETS_MAX = 4;
export const RELATED_PORT = 30_000;
const RELATED_PORTS = (["tcp", "udp"] as const).map((transport) => ({ port: RELATED_PORT, transport, related: true }));

export function serverMac(slot: number): Buffer {
  return Buffer.from([2, 0, 0, 0, 1, slot]);
}

export interface HeldRecord {
  flow: Flow;
  ticket: number;
  reason: number;
  slot: number;
  frame: Buffer;
}

/** What became of one packet. */
export interface Outcome {
  verdict: string;
  action: number;
  /** Slot of the server in the destination MAC, if it was forwarded. */
  slot: number | undefined;
  out: Buffer;
}

/** steer.bpf.o loaded and filled, attached nowhere: packets go in by BPF_PROG_TEST_RUN. */
export class TestAppliance {
  readonly tables: Tables;
  readonly seen = new Set<string>();
  private readonly object: BpfObject;
  private readonly maps: SteerMaps;
  private readonly ring: RingBuffer;
  private readonly records: HeldRecord[] = [];
  private readonly binding: Binding = binding;
  private readonly maglev = new Map<string, Uint16Array>();

  constructor() {
    this.object = binding.load(bpfObject("steer"), {
      rodata: steerRodata({
        vips: [VIP, OTHER_VIP, VIP6],
        ownMac: Buffer.from(OWN_MAC.replaceAll(":", ""), "hex"),
        holdMs: 10_000,
        holdMegabytes: 1,
        holdPacketsPerFlow: PACKETS_MAX,
      }),
    });
    this.maps = Object.fromEntries(steerMaps.map((name) => [name, this.object.map(name)])) as SteerMaps;
    this.tables = new Tables(this.maps);
    this.tables.setServices([{ port: 80 }, ...RELATED_PORTS]);
    this.ring = binding.ringBuffer(this.maps.held_packets, (bytes) =>
      this.records.push({
        flow: flowFromKey(bytes),
        ticket: bytes.readUInt32LE(heldPacketLayout.ticket),
        reason: bytes[heldPacketLayout.reason]!,
        slot: bytes.readUInt16LE(heldPacketLayout.slot),
        frame: bytes.subarray(HELD_PACKET_BYTES, HELD_PACKET_BYTES + bytes.readUInt32LE(heldPacketLayout.length)),
      }),
    );
    this.reset();
  }

  /** All servers up, in their first generation; nothing excepted or held. */
  reset(): void {
    for (const { slot } of MEMBERS) this.set(slot, "up");
    this.tables.setTables(MEMBERS, MEMBERS);
    this.tables.removeExceptions(this.tables.exceptions().map(({ flow }) => flow));
    for (const [key] of this.maps.holds.entries()) this.maps.holds.delete(key);
    for (const { flow } of this.tables.relations()) this.tables.unrelate(flow);
  }

  set(slot: number, state: ServerState, generation = 1): void {
    this.tables.setServer(slot, { mac: serverMac(slot), state, generation });
  }

  /** The server is suspected or being taken over: the others are its heirs. */
  suspect(slot: number, state: "held" | "takeover" = "held"): void {
    this.set(slot, state);
    this.tables.setTables(
      MEMBERS,
      MEMBERS.filter((member) => member.slot !== slot),
    );
  }

  home(flow: Flow, members = MEMBERS): number {
    const names = members.map(({ name }) => name);
    const known = this.maglev.get(names.join()) ?? maglevTable(names);
    this.maglev.set(names.join(), known);
    return members[known[flowHash(flow) % MAGLEV_SIZE]!]!.slot;
  }

  heir(flow: Flow, dead: number): number {
    return this.home(
      flow,
      MEMBERS.filter(({ slot }) => slot !== dead),
    );
  }

  /** One packet in. */
  run(data: Buffer): Outcome {
    const before = this.tables.verdicts();
    const { retval, dataOut } = this.object.program("steer").testRun({ data });
    const after = this.tables.verdicts();
    const grown = steerVerdicts.filter((name) => after[name] !== before[name]);
    for (const name of grown) this.seen.add(name);
    const to = macText(dataOut.subarray(0, 6));
    const slot = MEMBERS.map((member) => member.slot).find((n) => macText(serverMac(n)) === to);
    return {
      verdict: grown.join("+"),
      action: retval,
      slot: retval === ACTION.REDIRECT ? slot : undefined,
      out: dataOut,
    };
  }

  /** What was put into the ring buffer since the last call; waits for `count` of them. */
  async held(count: number): Promise<HeldRecord[]> {
    for (let i = 0; i < 100 && this.records.length < count; i++) await sleep(5);
    return this.records.splice(0);
  }

  /** steer_release. @returns 1: released, 0: packets came meanwhile, 2: no such hold */
  release(flow: Flow, sent: number, slot: number): number {
    const context = Buffer.alloc(RELEASE_BYTES);
    flowKey(flow).copy(context, releaseLayout.flow);
    context.writeUInt32LE(sent, releaseLayout.sent);
    context.writeUInt16LE(slot, releaseLayout.slot);
    const { contextOut } = this.object.program("steer_release").testRun({ context });
    return contextOut!.readUInt32LE(releaseLayout.done);
  }

  hold(flow: Flow) {
    const bytes = this.maps.holds.lookup(flowKey(flow));
    return bytes && decodeHold(bytes);
  }

  forget(flow: Flow): void {
    this.maps.holds.delete(flowKey(flow));
  }

  /** The flow's hold as if it had been made long ago. */
  overdue(flow: Flow, slot: number): void {
    this.maps.holds.update(flowKey(flow), encodeHold({ deadlineNs: this.binding.monotonicNs() - 1n, slot }));
  }

  now(): bigint {
    return this.binding.monotonicNs();
  }

  close(): void {
    this.ring.close();
    this.object.close();
  }
}
