import { addressBytes, isIPv6 } from "../../../proto/flow.js";

/** A TCP segment in its Ethernet frame, with right checksums. */
export interface Frame {
  from: { address: string; port: number };
  to: { address: string; port: number };
  seq?: number;
  ack?: number;
  /** FIN 1, SYN 2, RST 4, PSH 8, ACK 16; ACK if left out. */
  flags?: number;
  window?: number;
  /** Raw TCP options, a multiple of 4 bytes. */
  options?: Buffer;
  payload?: Buffer;
  sourceMac?: string;
  destinationMac?: string;
  /** Overrides of header bytes for malformed frames. */
  protocol?: number;
}

export const TCP = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16, URG: 32 } as const;
export const OWN_MAC = "02:00:00:00:00:02";
export const APPLIANCE_MAC = "02:00:00:00:00:01";

/** NOP NOP TS, as Linux writes it. */
export function timestamps(value: number, echo: number): Buffer {
  const bytes = Buffer.from("0101080a0000000000000000", "hex");
  bytes.writeUInt32BE(value, 4);
  bytes.writeUInt32BE(echo, 8);
  return bytes;
}

function onesSum(bytes: Buffer, start = 0): number {
  let sum = start;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

function pseudoHeaderSum(source: Buffer, destination: Buffer, protocol: number, length: number): number {
  return onesSum(Buffer.concat([source, destination, Buffer.from([0, protocol, length >> 8, length & 0xff])]));
}

function mac(text: string): Buffer {
  return Buffer.from(text.replaceAll(":", ""), "hex");
}

/** Puts an IP header of the right family and an Ethernet header before a transport payload. */
export function wrap(frame: Frame, protocol: number, transport: Buffer): Buffer {
  const source = addressBytes(frame.from.address);
  const destination = addressBytes(frame.to.address);
  const v6 = isIPv6(frame.from.address);
  const ethernet = Buffer.concat([
    mac(frame.destinationMac ?? OWN_MAC),
    mac(frame.sourceMac ?? APPLIANCE_MAC),
    Buffer.from(v6 ? "86dd" : "0800", "hex"),
  ]);
  if (v6) {
    const header = Buffer.alloc(8);
    header[0] = 0x60;
    header.writeUInt16BE(transport.length, 4);
    header[6] = protocol;
    header[7] = 64;
    return Buffer.concat([ethernet, header, source, destination, transport]);
  }
  const header = Buffer.alloc(12);
  header[0] = 0x45;
  header.writeUInt16BE(20 + transport.length, 2);
  header[8] = 64;
  header[9] = protocol;
  const ip = Buffer.concat([header, source, destination]);
  ip.writeUInt16BE(~onesSum(ip) & 0xffff, 10);
  return Buffer.concat([ethernet, ip, transport]);
}

export function tcpFrame(frame: Frame): Buffer {
  const options = frame.options ?? Buffer.alloc(0);
  const header = Buffer.alloc(20);
  header.writeUInt16BE(frame.from.port, 0);
  header.writeUInt16BE(frame.to.port, 2);
  header.writeUInt32BE((frame.seq ?? 0) >>> 0, 4);
  header.writeUInt32BE((frame.ack ?? 0) >>> 0, 8);
  header[12] = (5 + options.length / 4) << 4;
  header[13] = frame.flags ?? TCP.ACK;
  header.writeUInt16BE(frame.window ?? 501, 14);
  const segment = Buffer.concat([header, options, frame.payload ?? Buffer.alloc(0)]);
  const pseudo = pseudoHeaderSum(addressBytes(frame.from.address), addressBytes(frame.to.address), 6, segment.length);
  segment.writeUInt16BE(~onesSum(segment, pseudo) & 0xffff, 16);
  return wrap(frame, frame.protocol ?? 6, segment);
}

/** Payload and ports only; the checksum, which IPv4 does not ask for, is left out. */
export function udpFrame(frame: Pick<Frame, "from" | "to" | "payload" | "sourceMac" | "destinationMac">): Buffer {
  const payload = frame.payload ?? Buffer.alloc(0);
  const header = Buffer.alloc(8);
  header.writeUInt16BE(frame.from.port, 0);
  header.writeUInt16BE(frame.to.port, 2);
  header.writeUInt16BE(header.length + payload.length, 4);
  return wrap(frame, 17, Buffer.concat([header, payload]));
}

/** What is in a TCP frame, and whether its TCP checksum holds. */
export interface Seen {
  sourceMac: string;
  destinationMac: string;
  source: Buffer;
  destination: Buffer;
  sourcePort: number;
  destinationPort: number;
  seq: number;
  ack: number;
  flags: number;
  window: number;
  payload: number;
  checksumHolds: boolean;
}

/** @returns undefined for anything but TCP without extension headers */
export function readFrame(frame: Buffer): Seen | undefined {
  const type = frame.readUInt16BE(12);
  const v6 = type === 0x86dd;
  if ((!v6 && type !== 0x0800) || frame[v6 ? 20 : 23] !== 6) return undefined;
  const at = 14 + (v6 ? 40 : (frame[14]! & 15) * 4);
  const length = v6 ? frame.readUInt16BE(18) : frame.readUInt16BE(16) - (at - 14);
  const segment = frame.subarray(at, at + length);
  const source = v6 ? frame.subarray(22, 38) : frame.subarray(26, 30);
  const destination = v6 ? frame.subarray(38, 54) : frame.subarray(30, 34);
  return {
    sourceMac: macText(frame.subarray(6, 12)),
    destinationMac: macText(frame.subarray(0, 6)),
    source,
    destination,
    sourcePort: segment.readUInt16BE(0),
    destinationPort: segment.readUInt16BE(2),
    seq: segment.readUInt32BE(4),
    ack: segment.readUInt32BE(8),
    flags: segment[13]!,
    window: segment.readUInt16BE(14),
    payload: length - (segment[12]! >> 4) * 4,
    checksumHolds: onesSum(segment, pseudoHeaderSum(source, destination, 6, length)) === 0xffff,
  };
}

function macText(bytes: Buffer): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}
