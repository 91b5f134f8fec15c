import { type Config, type ControllerConfig, portsOf } from "../../proto/config/index.js";
import type { Flow } from "../../proto/flow.js";
import { interfaceMac } from "../../proto/interface.js";
import type { RelationTable } from "../relations/index.js";
import { Steering } from "../steering/index.js";
import type { Appliance, HeldFlow, Member, Released, Seen, SlotState } from "./appliance.js";

export interface SteeredHandlers {
  /** Packets are being held for flows that had none held before. */
  onHeld(flows: Flow[]): void;
  onBounced(packets: Array<{ flow: Flow; slot: number; frame: Buffer }>): void;
}

/** The appliance that this controller runs on. */
export class SteeredAppliance implements Appliance {
  private constructor(private readonly steering: Steering) {}

  /** Loads or adopts the packet path. Throws what Steering.load throws. */
  static load(config: Config, own: ControllerConfig, handlers: SteeredHandlers): SteeredAppliance {
    const { holdMs, holdMegabytes, holdPacketsPerFlow } = config.limits;
    return new SteeredAppliance(
      Steering.load({
        interface: own.interface,
        pins: own.pins,
        vips: config.vips,
        ownMac: interfaceMac(own.interface),
        services: config.services.flatMap(portsOf),
        holdMs,
        holdMegabytes,
        holdPacketsPerFlow,
        ...handlers,
      }),
    );
  }

  /** Exactly these take part from now on. */
  setServices(config: Pick<Config, "services">): void {
    this.steering.tables.setServices(config.services.flatMap(portsOf));
  }

  /** Where flows are that go where others go. */
  get relations(): RelationTable {
    return this.steering.tables;
  }

  setServer({ slot, generation, mac }: Member, state: SlotState): void {
    this.steering.tables.setServer(slot, { mac, state, generation });
  }

  macOf(slot: number): Buffer | undefined {
    return this.steering.tables.macOf(slot);
  }

  slotState(slot: number): SlotState {
    return this.steering.tables.stateOf(slot);
  }

  setTables(main: Member[], heirs: Member[]): void {
    const named = (members: Member[]) => members.map(({ id, slot }) => ({ name: id, slot }));
    this.steering.tables.setTables(named(main), named(heirs));
  }

  putExceptions(items: Array<{ flow: Flow; member: Member }>): void {
    this.steering.tables.putExceptions(
      items.map(({ flow, member }) => ({ flow, slot: member.slot, generation: member.generation })),
    );
  }

  removeExceptions(flows: Flow[]): void {
    this.steering.tables.removeExceptions(flows);
  }

  exceptions(): Flow[] {
    return this.steering.tables.exceptions().map(({ flow }) => flow);
  }

  hold(flow: Flow, owner: Member, forMs: number): void {
    this.steering.beginHold(flow, owner, forMs);
  }

  holding(): Array<{ flow: Flow; slot: number }> {
    return this.steering.holding();
  }

  assign(items: Array<{ flow: Flow; member: Member }>): Promise<Released[]> {
    return this.steering.assign(items.map(({ flow, member }) => ({ flow, slot: member.slot })));
  }

  drop(flow: Flow): void {
    this.steering.drop(flow);
  }

  forget(flow: Flow): void {
    this.steering.forget(flow);
  }

  held(): HeldFlow[] {
    return this.steering.held();
  }

  seen(flow: Flow): Seen | undefined {
    const hints = this.steering.hintsOf(flow);
    if (!hints) return undefined;
    const { slot, ack, seq, tsval, tsecr, window, syn } = hints;
    return { slot, ack, seq, tsval, tsecr, window, syn };
  }

  send(frame: Buffer): void {
    this.steering.send(frame);
  }

  sendToClient(packet: Buffer): void {
    this.steering.sendToClient(packet);
  }

  verdicts(): Record<string, number> {
    return this.steering.tables.verdicts();
  }

  /** What is being held, and the packets of holds that were sent and thrown away since this process began. */
  heldTotals(): { flows: number; packets: number; bytes: number; sent: number; dropped: number } {
    return this.steering.heldTotals();
  }
}
