import { RefusedError } from "../../proto/errors.js";
import type { LayerSection, TcpState } from "../../proto/record.js";
import { toSequence } from "../../proto/sequence.js";
import { decodeTcpSection, encodeTcpSection } from "../../proto/sections.js";
import type { ProtocolLayer } from "./layer.js";

/** TCP's part: the live socket's state at a checkpoint, what the rebuilt one starts from on the other server. */
export class TcpLayer implements ProtocolLayer {
  readonly name = "tcp";
  /** Of the other server; absent on a connection that was accepted here. */
  taken: TcpState | undefined;
  /** Sequence number that the rebuilt socket begins to send at. */
  resumedAt: number | undefined;

  /** @param state reads the live socket. */
  constructor(private readonly state: () => TcpState) {}

  checkpoint(block: LayerSection[]): void {
    block.push(encodeTcpSection(this.state()));
  }

  unready(section: LayerSection): void {
    const taken = decodeTcpSection(section);
    if (!taken.windowScaling && (taken.sendScale !== 0 || taken.receiveScale !== 0)) {
      throw new RefusedError("contradictory TCP options", "window scales without window scaling");
    }
    if (taken.sendScale > 14 || taken.receiveScale > 14) {
      throw new RefusedError("contradictory TCP options", "a window scale above 14 (RFC 7323 section 2.3)");
    }
    this.taken = taken;
  }

  ready(position: number): void {
    if (this.taken) this.resumedAt = toSequence(this.taken.serverIsn, position);
  }

  undo(): void {
    this.taken = undefined;
  }
}
