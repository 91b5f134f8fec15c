import { vipSeed } from "../../bpf/maglev.js";
import { BatonError } from "../../proto/errors.js";
import { address16, addressBytes, isIPv6 } from "../../proto/flow.js";

/** BATON_VIPS_MAX: addresses a family. */
const VIPS_MAX = 8;

/** What steer.bpf.c is loaded with. */
export interface SteerSettings {
  vips: string[];
  /** MAC of the appliance's interface, 6 bytes: the source of what it forwards. */
  ownMac: Buffer;
  holdMs: number;
  holdMegabytes: number;
  holdPacketsPerFlow: number;
}

/** The settings as steer_maps.h names them. Throws CONFIG_INVALID for more VIPs than fit. */
export function steerRodata(settings: SteerSettings): Record<string, number | bigint | Buffer> {
  const vip4 = settings.vips.filter((vip) => !isIPv6(vip));
  const vip6 = settings.vips.filter(isIPv6);
  for (const vips of [vip4, vip6]) {
    if (vips.length > VIPS_MAX) throw new BatonError("CONFIG_INVALID", `more than ${VIPS_MAX} VIPs of one family`);
  }
  return {
    own_mac: settings.ownMac,
    vip4_count: vip4.length,
    vip6_count: vip6.length,
    vip4: table(vip4.map(addressBytes), 4),
    vip6: table(vip6.map(addressBytes), 16),
    vip4_seed: seeds(vip4),
    vip6_seed: seeds(vip6),
    hold_ns: BigInt(settings.holdMs) * 1_000_000n,
    hold_packets_max: settings.holdPacketsPerFlow,
    hold_bytes_max: BigInt(settings.holdMegabytes) << 20n,
  };
}

function table(elements: Buffer[], bytes: number): Buffer {
  const out = Buffer.alloc(VIPS_MAX * bytes);
  for (const [i, element] of elements.entries()) element.copy(out, i * bytes);
  return out;
}

function seeds(vips: string[]): Buffer {
  const out = Buffer.alloc(VIPS_MAX * 8);
  for (const [i, vip] of vips.entries()) out.writeBigUInt64LE(vipSeed(address16(vip)), i * 8);
  return out;
}
