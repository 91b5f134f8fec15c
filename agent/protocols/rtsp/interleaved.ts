import { type LanePosition, RTP_HEADER, reportLength } from "../../media/index.js";
import { FRAME_HEADER } from "./request.js";

const DOLLAR = 0x24;

/** What goes ahead of an RTP or RTCP packet in the TCP stream (RFC 2326 section 10.12). @param length of the packet, below 65,536 bytes */
export function frameHeader(channel: number, length: number): Buffer {
  return Buffer.from([DOLLAR, channel, length >> 8, length & 0xff]);
}

/** A packet with it. */
export function frameOf(channel: number, packet: Buffer): Buffer {
  return Buffer.concat([frameHeader(channel, packet.length), packet], FRAME_HEADER + packet.length);
}

/**
 * Bytes of all the packets and reports, framed, that lanes at these positions have behind them. Less the same of where the range
 * began, and with whatever else was sent in between, that is the stream's offset.
 */
export function framedLength(positions: readonly LanePosition[], cname: string): number {
  const report = FRAME_HEADER + reportLength(cname);
  return positions.reduce(
    (sum, { packets, octets, reports }) => sum + packets * (FRAME_HEADER + RTP_HEADER) + octets + reports * report,
    0,
  );
}
