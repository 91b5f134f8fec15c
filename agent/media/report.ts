import { MICROSECONDS } from "./time.js";

/** What a sender report says (RFC 3550 section 6.4.1). */
export interface Report {
  ssrc: number;
  /** The instant it speaks of, Unix time in microseconds. */
  wallUs: number;
  /** The same instant as an RTP timestamp. */
  timestamp: number;
  /** Sent since the stream began, as counted without wrapping. */
  packets: number;
  /** Of payload. */
  octets: number;
}

const VERSION = 0x80;
const SENDER_REPORT = 200;
const DESCRIPTION = 202;
const GOODBYE = 203;
const CNAME = 1;
/** Seconds from 1900 to 1970. */
const NTP_EPOCH = 2_208_988_800;
/** Of a text in RTCP, bytes. */
const TEXT_MAX = 255;
const SENDER_LENGTH = 28;

/**
 * A compound packet: sender report, then the source's canonical name. The same bytes for the same arguments.
 * @param cname at most 255 bytes; equal for all streams of a presentation
 * @param isLast the source says goodbye in it (section 6.6)
 */
export function reportPacket(report: Report, cname: string, isLast = false): Buffer {
  const parts = [senderReport(report), description(report.ssrc, cname)];
  if (isLast) parts.push(goodbye(report.ssrc));
  return Buffer.concat(parts);
}

/** Bytes of such a packet that is not the last. */
export function reportLength(cname: string): number {
  return SENDER_LENGTH + descriptionLength(cname);
}

function senderReport({ ssrc, wallUs, timestamp, packets, octets }: Report): Buffer {
  const packet = packetOf(SENDER_REPORT, 0, SENDER_LENGTH - 4);
  const seconds = Math.floor(wallUs / MICROSECONDS);
  packet.writeUInt32BE(ssrc, 4);
  packet.writeUInt32BE((seconds + NTP_EPOCH) % 2 ** 32, 8);
  packet.writeUInt32BE(Math.floor(((wallUs - seconds * MICROSECONDS) * 2 ** 32) / MICROSECONDS), 12);
  packet.writeUInt32BE(timestamp, 16);
  packet.writeUInt32BE(packets % 2 ** 32, 20);
  packet.writeUInt32BE(octets % 2 ** 32, 24);
  return packet;
}

/** Section 6.5: one chunk, ended by at least one zero byte, filled up to a multiple of four. */
function description(ssrc: number, cname: string): Buffer {
  const text = Buffer.from(cname).subarray(0, TEXT_MAX);
  const packet = packetOf(DESCRIPTION, 1, descriptionLength(cname) - 4);
  packet.writeUInt32BE(ssrc, 4);
  packet[8] = CNAME;
  packet[9] = text.length;
  text.copy(packet, 10);
  return packet;
}

function descriptionLength(cname: string): number {
  return 8 + 4 * Math.ceil((2 + Math.min(TEXT_MAX, Buffer.byteLength(cname)) + 1) / 4);
}

function goodbye(ssrc: number): Buffer {
  const packet = packetOf(GOODBYE, 1, 4);
  packet.writeUInt32BE(ssrc, 4);
  return packet;
}

/** @param length bytes behind the first four, a multiple of four */
function packetOf(type: number, count: number, length: number): Buffer {
  const packet = Buffer.alloc(4 + length);
  packet[0] = VERSION | count;
  packet[1] = type;
  packet.writeUInt16BE(length / 4, 2);
  return packet;
}
