import { FRAME_HEADER } from "./request.js";

const DOLLAR = 0x24;

/** An RTP or RTCP packet as it goes in the TCP stream (RFC 2326 section 10.12). @param packet below 65,536 bytes */
export function frameOf(channel: number, packet: Buffer): Buffer {
  const { length } = packet;
  const header = Buffer.from([DOLLAR, channel, length >> 8, length & 0xff]);
  return Buffer.concat([header, packet], FRAME_HEADER + length);
}
