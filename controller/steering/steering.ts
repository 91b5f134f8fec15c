import { mkdirSync } from "node:fs";
import { join } from "node:path";
import {
  type Binding,
  BindingError,
  type BpfObject,
  type HoldQueue,
  binding as realBinding,
} from "../../bpf/binding/index.js";
import { decodeHold, flowFromKey, flowKey } from "../../bpf/layout.js";
import { removePins, replacePin } from "../../bpf/pins.js";
import type { ServicePort } from "../../proto/config/index.js";
import { BatonError } from "../../proto/errors.js";
import type { Flow } from "../../proto/flow.js";
import { bpfObject } from "../../proto/paths.js";
import { Releases } from "./releases.js";
import { type SteerSettings, steerRodata } from "./settings.js";
import { type Hints, type Owner, type SteerMaps, steerMaps, Tables } from "./tables.js";

const SWEEP_MS = 5_000;
/** A hold that nobody has ended so long after its deadline is removed. */
const HOLD_OVERDUE_NS = 1_000_000_000n;
const PROGRAM = "steer";
const RELEASE = "steer_release";
const LINK = "steer_link";

export interface SteeringOptions extends SteerSettings {
  interface: string;
  /** Folder in bpffs. */
  pins: string;
  services: ServicePort[];
  /** Packets are held of flows that had none held before. */
  onHeld(flows: Flow[]): void;
  /** A server has no such connection and sent the packet back. */
  onBounced(packets: Array<{ flow: Flow; slot: number; frame: Buffer }>): void;
}

export interface HeldFlow {
  flow: Flow;
  packets: number;
  bytes: number;
  /** CLOCK_MONOTONIC of the first packet. */
  sinceNs: bigint;
  /** First and latest frame, from the Ethernet header on. */
  first: Buffer;
  last: Buffer;
}

/**
 * The packet path of this appliance. Program, link and maps are pinned: they go on when the controller dies, and the next
 * one adopts them with every flow and exception, and swaps its own program in under way.
 */
export class Steering {
  /** Servers, Maglev, exceptions, hints, verdicts. */
  readonly tables: Tables;
  private readonly queue: HoldQueue;
  private readonly releases: Releases;
  private readonly sweeper: NodeJS.Timeout;

  private constructor(
    private readonly object: BpfObject,
    private readonly maps: SteerMaps,
    private readonly binding: Binding,
    options: SteeringOptions,
  ) {
    this.tables = new Tables(maps);
    this.tables.adopt();
    this.queue = binding.holdQueue({
      heldPackets: maps.held_packets,
      release: object.program(RELEASE),
      holds: maps.holds,
      interface: options.interface,
      maxBytes: options.holdMegabytes * 2 ** 20,
      maxPackets: options.holdPacketsPerFlow,
      onHeld: (flows) => options.onHeld(flows.map(flowFromKey)),
      onBounced: (packets) =>
        options.onBounced(packets.map((packet) => ({ ...packet, flow: flowFromKey(packet.flow) }))),
    });
    this.releases = new Releases(this.queue);
    this.sweeper = setInterval(() => this.sweep(), SWEEP_MS).unref();
  }

  /**
   * Loads, pins and attaches in this process' network namespace, in native mode. Throws CONFIG_INVALID, NOT_FOUND (the
   * interface), NOT_PERMITTED, and BPF_FAILED: what is pinned is of another version (unload first), or the kernel refused.
   */
  static load(options: SteeringOptions, binding: Binding = realBinding): Steering {
    const rodata = steerRodata(options);
    let object: BpfObject | undefined;
    try {
      mkdirSync(options.pins, { recursive: true });
      object = binding.load(bpfObject("steer"), { rodata, pinDir: options.pins, pinMaps: [...steerMaps] });
      const loaded = object;
      const maps = Object.fromEntries(steerMaps.map((name) => [name, loaded.map(name)])) as SteerMaps;
      const steering = new Steering(object, maps, binding, options);
      // Everything that packets need is in the maps before the program sees one; an adopted program sees it as well.
      steering.tables.setServices(options.services);
      replacePin(object.program(PROGRAM), join(options.pins, PROGRAM));
      replacePin(object.program(RELEASE), join(options.pins, RELEASE));
      object
        .program(PROGRAM)
        .attachXdp(options.interface, { pin: join(options.pins, LINK) })
        .close();
      return steering;
    } catch (error) {
      object?.close();
      throw asBatonError(error, options);
    }
  }

  /** Detaches and removes every pin: packets to the VIPs meet the appliance's own stack from now on. */
  static unload(pins: string): void {
    removePins(pins, [LINK, PROGRAM, RELEASE, ...steerMaps]);
  }

  /**
   * Points flows at their owners and sends what was held, in order; results in the same order. Each flow has its exception
   * (or Maglev says so) before its hold is forgotten: call `forget` after `tables.putExceptions`. Rejects with NOT_FOUND.
   */
  async assign(items: Array<{ flow: Flow; slot: number }>): Promise<Array<{ packets: number; heldUs: number }>> {
    return this.releases.assign(
      items.map(({ flow, slot }) => ({ flow: flowKey(flow), slot, mac: this.tables.server(slot).mac })),
    );
  }

  /** The tables name the owner: the hold is over, and stragglers of the queue leave with it. */
  forget(flow: Flow): void {
    const key = flowKey(flow);
    this.maps.holds.delete(key);
    this.queue.forget(key);
  }

  /** Throws away what is held of the flow, and its hold. @returns packets */
  drop(flow: Flow): number {
    return this.queue.drop(flowKey(flow));
  }

  /** Holds one flow of a living server, for a migration: see Tables.beginHold. */
  beginHold(flow: Flow, owner: Owner, forMs: number): void {
    this.tables.beginHold(flow, owner, this.binding.monotonicNs() + BigInt(Math.round(forMs * 1e6)));
  }

  /** Flows that are held one by one, whether packets of theirs have come or not; not those that are held with their server. */
  holding(): Array<{ flow: Flow; slot: number }> {
    const holds = this.maps.holds.entries().map(([key, value]) => ({ key, hold: decodeHold(value) }));
    const moving = holds.filter(({ key, hold }) => hold.state === "holding" && this.tables.isMoving(key));
    return moving.map(({ key, hold }) => ({ flow: flowFromKey(key), slot: hold.slot }));
  }

  /** Flows with packets in the queue. */
  held(): HeldFlow[] {
    return this.queue.flows().map((held) => ({ ...held, flow: flowFromKey(held.flow) }));
  }

  heldTotals(): { packets: number; bytes: number; flows: number; dropped: number; sent: number } {
    return this.queue.stats();
  }

  hintsOf(flow: Flow): Hints | undefined {
    return this.tables.hintsOf(flow);
  }

  /** Sends a whole Ethernet frame out of the interface. */
  send(frame: Buffer): void {
    this.queue.send(frame);
  }

  /** Sends a whole IP packet to a client: from a frame that a server has sent back its link-layer address cannot be told. */
  sendToClient(packet: Buffer): void {
    this.binding.sendIpPacket(packet);
  }

  /** Holds whose end nobody came to see: without this the table would fill with them. */
  private sweep(): void {
    const now = this.binding.monotonicNs();
    for (const [key, value] of this.maps.holds.entries()) {
      const hold = decodeHold(value);
      if (hold.deadlineNs + HOLD_OVERDUE_NS > now) continue;
      if (hold.state === "holding") this.queue.drop(key);
      else this.forget(flowFromKey(key));
    }
  }

  /** Lets go of everything in this process; the packet path goes on. */
  close(): void {
    clearInterval(this.sweeper);
    this.queue.close();
    this.object.close();
  }
}

function asBatonError(error: unknown, { interface: name, pins }: SteeringOptions): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  if (error instanceof BatonError || code === undefined) return error;
  if (code === "ENODEV") return new BatonError("NOT_FOUND", `there is no interface "${name}"`, error);
  if (code === "EPERM" || code === "EACCES")
    return new BatonError("NOT_PERMITTED", `steering needs root: ${message}`, error);
  if (code === "EEXIST" || code === "EBUSY") {
    return new BatonError(
      "BPF_FAILED",
      `what is pinned in ${pins} or attached to ${name} does not fit: ${message}`,
      error,
    );
  }
  const log = error instanceof BindingError && error.log ? `\n${error.log}` : "";
  return new BatonError("BPF_FAILED", `steering cannot be loaded: ${message}${log}`, error);
}
