import type { LayerSection } from "../../proto/record.js";
import { decodeIpSection, encodeIpSection, type IpSection } from "../../proto/sections.js";
import type { ProtocolLayer } from "./layer.js";

/** Linux's defaults; Baton's sockets change neither. */
const DEFAULTS: IpSection = { ttl: 64, dscp: 0 };

/** IP's part of a connection: what its packets carry beside the addresses, which are the record's own. */
export class IpLayer implements ProtocolLayer {
  readonly name = "ip";
  private section: IpSection = DEFAULTS;

  checkpoint(block: LayerSection[]): void {
    block.push(encodeIpSection(this.section));
  }

  unready(section: LayerSection): void {
    this.section = decodeIpSection(section);
  }

  ready(): void {}

  undo(): void {
    this.section = DEFAULTS;
  }
}
