import { addressText, type Flow, flowKey } from "../../proto/flow.js";
import { add } from "../../proto/sequence.js";

/** A TCP segment in an Ethernet frame, as far as an answer to it needs to know. */
export interface ParsedSegment {
  frame: Buffer;
  /** Where the IP header and the TCP header begin. */
  ip: number;
  tcp: number;
  isIPv6: boolean;
  seq: number;
  ack: number;
  /** Sequence numbers that it takes: payload, SYN and FIN. */
  length: number;
  syn: boolean;
  rst: boolean;
  hasAck: boolean;
}

const ETHERNET = 14;
const TCP = 6;

/** Untagged or tagged IPv4 and IPv6 without extension headers; undefined for anything else. */
export function parseFrame(frame: Buffer): ParsedSegment | undefined {
  let ip = ETHERNET;
  if (frame.length < ip + 40) return undefined;
  let type = frame.readUInt16BE(12);
  while ((type === 0x8100 || type === 0x88a8) && frame.length >= ip + 44) {
    type = frame.readUInt16BE(ip + 2);
    ip += 4;
  }
  const isIPv6 = type === 0x86dd;
  if (!isIPv6 && type !== 0x0800) return undefined;
  const protocol = frame[isIPv6 ? ip + 6 : ip + 9];
  const tcp = ip + (isIPv6 ? 40 : ((frame[ip] ?? 0) & 15) * 4);
  if (protocol !== TCP || frame.length < tcp + 20) return undefined;
  const end = ip + (isIPv6 ? 40 + frame.readUInt16BE(ip + 4) : frame.readUInt16BE(ip + 2));
  const flags = frame[tcp + 13] ?? 0;
  const payload = end - tcp - ((frame[tcp + 12] ?? 0) >> 4) * 4;
  if (payload < 0 || end > frame.length) return undefined;
  return {
    frame,
    ip,
    tcp,
    isIPv6,
    seq: frame.readUInt32BE(tcp + 4),
    ack: frame.readUInt32BE(tcp + 8),
    length: payload + (flags & 2 ? 1 : 0) + (flags & 1 ? 1 : 0),
    syn: (flags & 2) !== 0,
    rst: (flags & 4) !== 0,
    hasAck: (flags & 16) !== 0,
  };
}

/** The flow that it is of, sent by its client. */
export function flowOf({ frame, ip, tcp, isIPv6 }: ParsedSegment): Flow {
  const [source, length] = isIPv6 ? [ip + 8, 16] : [ip + 12, 4];
  const address = (at: number) => addressText(frame.subarray(at, at + length));
  return {
    client: { address: address(source), port: frame.readUInt16BE(tcp) },
    vip: { address: address(source + length), port: frame.readUInt16BE(tcp + 2) },
    transport: "tcp",
  };
}

/** As parseFrame, where the frame is one of the flow itself: those that go with it are held and sent back under its name. */
export function segmentOf(flow: Flow, frame: Buffer): ParsedSegment | undefined {
  const segment = parseFrame(frame);
  return segment && flowKey(flowOf(segment)) === flowKey(flow) ? segment : undefined;
}

/** The RST that a host without such a connection answers with (RFC 9293 section 3.10.7.1), as an IP packet to the segment's source. */
export function resetFor(segment: ParsedSegment): Buffer {
  const { frame, tcp, isIPv6 } = segment;
  const header = isIPv6 ? 40 : 20;
  const out = Buffer.alloc(header + 20);
  if (isIPv6) {
    out.writeUInt32BE(0x60000000, 0);
    out.writeUInt16BE(20, 4);
    out[6] = TCP;
    out[7] = 64;
    frame.copy(out, 8, segment.ip + 24, segment.ip + 40);
    frame.copy(out, 24, segment.ip + 8, segment.ip + 24);
  } else {
    out[0] = 0x45;
    out.writeUInt16BE(40, 2);
    out.writeUInt16BE(0x4000, 6);
    out[8] = 64;
    out[9] = TCP;
    frame.copy(out, 12, segment.ip + 16, segment.ip + 20);
    frame.copy(out, 16, segment.ip + 12, segment.ip + 16);
    out.writeUInt16BE(checksum(out, 0, 20, 0), 10);
  }
  const at = header;
  frame.copy(out, at, tcp + 2, tcp + 4);
  frame.copy(out, at + 2, tcp, tcp + 2);
  if (segment.hasAck) {
    out.writeUInt32BE(segment.ack, at + 4);
    out[at + 13] = 0x04;
  } else {
    out.writeUInt32BE(add(segment.seq, segment.length), at + 8);
    out[at + 13] = 0x14;
  }
  out[at + 12] = 0x50;
  const addresses = isIPv6 ? sum(out, 8, 32) : sum(out, 12, 8);
  out.writeUInt16BE(checksum(out, at, 20, addresses + TCP + 20), at + 16);
  return out;
}

function sum(bytes: Buffer, at: number, length: number): number {
  let total = 0;
  for (let i = 0; i < length; i += 2) total += bytes.readUInt16BE(at + i);
  return total;
}

/** RFC 1071. */
function checksum(bytes: Buffer, at: number, length: number, initial: number): number {
  let total = initial + sum(bytes, at, length);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return ~total & 0xffff;
}
