import { addressBytes, isIPv6 } from "../../../proto/flow.js";

/** Turns of a plain frame into the odd ones; checksums of what lies above are left as they are. */

const ETHERNET = 14;

/** With these tags (TPIDs) in front of its EtherType. */
export function tagged(frame: Buffer, ...types: number[]): Buffer {
  const tags = types.map((type) => Buffer.from([type >> 8, type & 0xff, 0, 42]));
  return Buffer.concat([frame.subarray(0, 12), ...tags, frame.subarray(12)]);
}

/** IPv4 with `bytes` of options (NOPs). */
export function withIpOptions(frame: Buffer, bytes: number): Buffer {
  const out = Buffer.concat([frame.subarray(0, ETHERNET + 20), Buffer.alloc(bytes, 1), frame.subarray(ETHERNET + 20)]);
  out[ETHERNET] = 0x40 | (5 + bytes / 4);
  out.writeUInt16BE(out.readUInt16BE(ETHERNET + 2) + bytes, ETHERNET + 2);
  return out;
}

/** IPv6 with extension headers of these types between header and transport, each with `body` behind its next-header byte. */
export function withExtensions(frame: Buffer, headers: Array<{ type: number; body: Buffer }>): Buffer {
  const types = [...headers.map(({ type }) => type), frame[ETHERNET + 6]!];
  const extensions = headers.map(({ body }, i) => Buffer.concat([Buffer.from([types[i + 1]!]), body]));
  const out = Buffer.concat([frame.subarray(0, ETHERNET + 40), ...extensions, frame.subarray(ETHERNET + 40)]);
  out[ETHERNET + 6] = types[0]!;
  const added = extensions.reduce((sum, { length }) => sum + length, 0);
  out.writeUInt16BE(out.readUInt16BE(ETHERNET + 4) + added, ETHERNET + 4);
  return out;
}

/** Eight bytes of padding options; for withExtensions. */
export const PADDING = Buffer.from([0, 1, 4, 0, 0, 0, 0]);

/** Fragment header's body (RFC 8200 section 4.5). @param offset in units of 8 bytes */
export function fragmentBody(offset: number, more: boolean): Buffer {
  const body = Buffer.alloc(7);
  body.writeUInt16BE((offset << 3) | (more ? 1 : 0), 1);
  return body;
}

/** An ICMP error about `quoted`, a packet with its Ethernet header, of which `bytes` behind the IP header are quoted. */
export function icmpError(to: { type: number; code: number; quoted: Buffer; bytes?: number }): Buffer {
  const v6 = to.quoted.readUInt16BE(12) === 0x86dd;
  const header = v6 ? 40 : (to.quoted[ETHERNET]! & 15) * 4;
  const quote = to.quoted.subarray(ETHERNET, ETHERNET + header + (to.bytes ?? 8));
  return Buffer.concat([Buffer.from([to.type, to.code, 0, 0, 0, 0, 0x05, 0x00]), quote]);
}

export function macText(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** A random address of the same family. */
export function randomAddress(like: string): string {
  const bytes = addressBytes(like);
  const random = () => Math.floor(Math.random() * 256);
  if (!isIPv6(like)) return `10.${random()}.${random()}.${1 + (random() % 250)}`;
  const words = [...Array(7)].map(() => ((random() << 8) | random()).toString(16));
  return `fd${bytes[1]!.toString(16).padStart(2, "0")}:${words.join(":")}`;
}
