import { addressText } from "../../proto/flow.js";
import { Frames, senderOf } from "./frames.js";
import { hostOf } from "./host.js";

/** An RTP packet as the client's interface saw it. */
export interface RtpPacket {
  timeUs: number;
  /** The host that sent it. */
  host: string;
  /** Where it goes to. */
  address: string;
  port: number;
  /** Or hop limit. */
  ttl: number;
  ssrc: number;
  sequence: number;
  timestamp: number;
}

/** RTP that comes by UDP to even ports. */
export class RtpCapture {
  private constructor(
    private readonly frames: Frames,
    readonly packets: readonly RtpPacket[],
  ) {}

  /** @param filter pcap's language, beside that it is UDP */
  static async start(filter: string): Promise<RtpCapture> {
    const packets: RtpPacket[] = [];
    const frames = await Frames.start(`udp and ${filter}`, (frame, timeUs) => {
      const packet = parse(frame, timeUs);
      if (packet) packets.push(packet);
    });
    return new RtpCapture(frames, packets);
  }

  /** Throws if the kernel dropped some of them. */
  async stop(): Promise<readonly RtpPacket[]> {
    await this.frames.stop();
    return this.packets;
  }
}

/**
 * What is wrong with the packets of one source, in their order, once those that were sent twice are left out; nothing, where every one of them is there, no two differ
 * under one number, and time goes on with them. @param longestMs between two packets' timestamps @param clockRate of those
 */
export function flawsOf(packets: readonly RtpPacket[], clockRate: number, longestMs = 200): string[] {
  const first = packets[0];
  if (!first) return ["there is none"];
  const flaws: string[] = [];
  const byPlace = new Map<number, RtpPacket>();
  let highest = 0;
  for (const packet of packets) {
    // Within half the numbers of the highest one so far (RFC 3550 appendix A.1).
    const ahead = (packet.sequence - ((first.sequence + highest) % 65_536) + 65_536) % 65_536;
    const place = highest + (ahead < 32_768 ? ahead : ahead - 65_536);
    highest = Math.max(highest, place);
    const same = byPlace.get(place);
    if (same && same.timestamp !== packet.timestamp) flaws.push(`two packets have number ${packet.sequence}`);
    byPlace.set(place, packet);
  }
  const places = [...byPlace.keys()].sort((a, b) => a - b);
  for (const [at, place] of places.entries()) {
    const before = places[at - 1];
    if (before === undefined) continue;
    if (place !== before + 1) flaws.push(`${place - before - 1} packets are missing behind place ${before}`);
    const jump = Math.abs((byPlace.get(place)!.timestamp - byPlace.get(before)!.timestamp) | 0);
    if (jump > (longestMs * clockRate) / 1_000) flaws.push(`the time jumps by ${jump} at place ${place}`);
  }
  return flaws;
}

function parse(frame: Buffer, timeUs: number): RtpPacket | undefined {
  const ipv6 = frame.readUInt16BE(12) === 0x86dd;
  const udp = 14 + (ipv6 ? 40 : (frame[14]! & 15) * 4);
  const rtp = udp + 8;
  if (frame.length < rtp + 12) return undefined;
  const port = frame.readUInt16BE(udp + 2);
  if (port % 2 !== 0 || frame[rtp]! >> 6 !== 2) return undefined;
  return {
    timeUs,
    host: hostOf(senderOf(frame)),
    address: addressText(ipv6 ? frame.subarray(38, 54) : frame.subarray(30, 34)),
    port,
    ttl: frame[ipv6 ? 21 : 22]!,
    sequence: frame.readUInt16BE(rtp + 2),
    timestamp: frame.readUInt32BE(rtp + 4),
    ssrc: frame.readUInt32BE(rtp + 8),
  };
}
