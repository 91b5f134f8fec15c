import { RefusedError } from "../../proto/errors.js";
import type { LayerSection, TcpState } from "../../proto/record.js";
import { decodeTcpSection, encodeTcpSection } from "../../proto/sections.js";
import type { ProtocolLayer } from "./layer.js";

const IDENTITY = [
  "clientIsn",
  "serverIsn",
  "mss",
  "sendScale",
  "receiveScale",
  "windowScaling",
  "sack",
  "timestamps",
] as const satisfies ReadonlyArray<keyof TcpState>;

/** What never changes in a connection's life. */
export type TcpIdentity = Pick<TcpState, (typeof IDENTITY)[number]>;

/** TCP's part: the live socket's state at a checkpoint; on the other server, that it is this very connection's. */
export class TcpLayer implements ProtocolLayer {
  readonly name = "tcp";

  /** @param state reads the live socket. */
  constructor(
    private readonly identity: TcpIdentity,
    private readonly state: () => TcpState,
  ) {}

  checkpoint(block: LayerSection[]): void {
    block.push(encodeTcpSection(this.state()));
  }

  unready(section: LayerSection): void {
    const taken = decodeTcpSection(section);
    for (const name of IDENTITY) {
      if (taken[name] !== this.identity[name]) {
        throw new RefusedError("contradictory TCP state", `${name}: ${taken[name]} and ${this.identity[name]}`);
      }
    }
    // RFC 7323 sections 2.2 and 2.3.
    const scales = taken.windowScaling ? 14 : 0;
    if (taken.sendScale > scales || taken.receiveScale > scales) {
      throw new RefusedError("contradictory TCP state", `window scales ${taken.sendScale}, ${taken.receiveScale}`);
    }
  }

  ready(): void {}

  undo(): void {}
}
