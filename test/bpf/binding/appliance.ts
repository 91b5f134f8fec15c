import { spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { BpfMap, BpfObject, HoldQueue } from "../../../bpf/binding/api.js";
import { binding } from "../../../bpf/binding/index.js";
import { bpfObject } from "../../../proto/paths.js";

export const objectPath = bpfObject("test/binding");

export function run(command: string): void {
  const [file = "", ...args] = command.split(" ");
  const result = spawnSync(file, args, { encoding: "utf8" });
  if (result.status !== 0) throw new Error(`${command}: ${result.stderr}`);
}

/** Two ends of a wire in this process's namespace: `far` is everybody else, `near` the appliance. Nothing else talks on it. */
export function makeWire(): void {
  run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
  run("ip link add far type veth peer name near");
  run("ip link set far address 02:00:00:00:00:0f up");
  run("ip link set near address 02:00:00:00:00:0e up");
}

export const nearMac = Buffer.from("02000000000e", "hex");

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** A struct baton_flow, as the test's BPF program makes it from a number. */
export function flowOf(number: number): Buffer {
  const flow = Buffer.alloc(40);
  flow.writeUInt32LE(number, 0);
  flow[36] = 6;
  return flow;
}

export interface Payload {
  flow: number;
  number: number;
  /** The slot that bounced it; 0: nobody did. */
  bounced?: number;
}

/** A frame that the test's BPF programs understand, with an 802.1Q tag if `vlan` is given. */
export function frame(payload: Payload, options: { vlan?: number; size?: number } = {}): Buffer {
  const tag =
    options.vlan === undefined ? Buffer.alloc(0) : Buffer.from([0x81, 0x00, options.vlan >> 8, options.vlan & 0xff]);
  const bytes = Buffer.alloc(options.size ?? 64);
  Buffer.from("0200000000ee0200000000dd", "hex").copy(bytes);
  tag.copy(bytes, 12);
  const at = 12 + tag.length;
  bytes.writeUInt16BE(0x88b5, at);
  bytes.writeUInt32LE(payload.flow, at + 2);
  bytes.writeUInt32LE(payload.number, at + 6);
  bytes[at + 10] = payload.bounced ?? 0;
  return bytes;
}

export interface Seen extends Payload {
  destination: string;
  source: string;
  vlan: number | undefined;
  /** XDP forwarded it; it did not come through the queue. */
  direct: boolean;
  bytes: Buffer;
}

export function parse(bytes: Buffer): Seen {
  const tagged = bytes.readUInt16BE(12) === 0x8100;
  const at = tagged ? 16 : 12;
  return {
    destination: bytes.toString("hex", 0, 6),
    source: bytes.toString("hex", 6, 12),
    vlan: tagged ? bytes.readUInt16BE(14) : undefined,
    flow: bytes.readUInt32LE(at + 2),
    number: bytes.readUInt32LE(at + 6),
    bounced: bytes[at + 10] ?? 0,
    direct: bytes[at + 11] === 1,
    bytes,
  };
}

/** A struct baton_hold in state HOLDING that has given out `held` tickets. */
export function holdEntry(held = 0): Buffer {
  const entry = Buffer.alloc(32);
  entry.writeUInt32LE(held, 4);
  entry[26] = 1;
  return entry;
}

/** The appliance in miniature on `near`, and everything that arrives on `far`. */
export class Appliance {
  readonly object: BpfObject = binding.load(objectPath);
  readonly holds: BpfMap = this.object.map("holds");
  readonly seen: Seen[] = [];
  readonly held: Buffer[] = [];
  readonly bounced: Array<{ flow: Buffer; slot: number; frame: Buffer }> = [];
  readonly queue: HoldQueue;
  readonly #world: HoldQueue;

  constructor(limits: { maxBytes?: number; maxPackets?: number } = {}) {
    makeWire();
    const world = binding.load(objectPath);
    world.program("capture").attachXdp("far");
    binding.ringBuffer(world.map("events"), (record) => {
      this.seen.push(parse(record));
    });
    this.object.program("hold").attachXdp("near");
    const open = (object: BpfObject, ifname: string) =>
      binding.holdQueue({
        heldPackets: object.map("held_packets"),
        holds: object.map("holds"),
        release: object.program("steer_release"),
        interface: ifname,
        maxBytes: limits.maxBytes ?? 1 << 28,
        maxPackets: limits.maxPackets ?? 1 << 20,
        onHeld: (flows) => {
          this.held.push(...flows);
        },
        onBounced: (packets) => {
          this.bounced.push(...packets);
        },
      });
    this.queue = open(this.object, "near");
    // Only its send() is used: to put frames on the wire towards the appliance.
    this.#world = open(world, "far");
  }

  hold(flow: number, held = 0): void {
    this.holds.update(flowOf(flow), holdEntry(held));
  }

  /** Puts a frame on the wire towards the appliance. */
  arrive(bytes: Buffer): void {
    this.#world.send(bytes);
  }
}

/** Lets the event loop turn until `holds`, at most two seconds. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 2000;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`not within two seconds: ${what}`);
    await sleep(2);
  }
}
