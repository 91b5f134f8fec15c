import type { ExecutionContext } from "ava";
import { addressText } from "../../proto/flow.js";
import { PICTURES_A_SECOND } from "./film.js";
import { Frames, senderOf } from "./frames.js";
import { hostOf, VIP } from "./host.js";

/** What the client's wire saw of one RTP flow. */
export interface RtpFacts {
  /** Where it goes to. */
  address: string;
  port: number;
  /** Times to live, or hop limits. */
  ttls: number[];
  ssrcs: number[];
  /** Hosts that sent it, each time another one did. */
  senders: string[];
  /** Each counted once; and those that came again. */
  packets: number;
  duplicates: number;
  /** Numbers between the first and the last that never came. */
  missing: number[];
  /** The largest step of the timestamp from one number to the next, either way. */
  largestStep: number;
}

/** Another server went on: the time from the last packet of the one to the first of the other, of any flow. */
export interface RtpHandover {
  from: string;
  to: string;
  gapMs: number;
}

interface RtpPacket {
  timeUs: number;
  sender: string;
  address: string;
  port: number;
  ttl: number;
  ssrc: number;
  sequence: number;
  timestamp: number;
}

/** RTCP's types as RTP would have them (RFC 5761 section 4). */
const RTCP_FROM = 64;
const RTCP_TO = 95;
/** Of a timestamp: pictures are sent in the order of their decoding, up to three of them out of their own. */
const STEP_MAX = (90_000 / PICTURES_A_SECOND) * 4;
const IPV6 = 0x86dd;
const [ETHERNET, IPV6_HEADER, UDP_HEADER, RTP_HEADER] = [14, 40, 8, 12];

/** RTP in datagrams, as the client's interface sees it. */
export class RtpCapture {
  private constructor(
    private readonly frames: Frames,
    private readonly packets: readonly RtpPacket[],
  ) {}

  /** @param filter pcap's language, beside that it is UDP; by default what comes from the IPv4 VIP */
  static async start(filter = `src host ${VIP}`): Promise<RtpCapture> {
    const packets: RtpPacket[] = [];
    const frames = await Frames.start(`udp and (${filter})`, (frame, timeUs) => {
      const packet = parse(frame, timeUs);
      if (packet) packets.push(packet);
    });
    return new RtpCapture(frames, packets);
  }

  /** Throws if the kernel dropped some of them. */
  async stop(): Promise<{ flows: RtpFacts[]; handovers: RtpHandover[] }> {
    await this.frames.stop();
    const byFlow = new Map<string, RtpPacket[]>();
    for (const packet of this.packets) {
      const key = `${packet.address} ${packet.port}`;
      byFlow.set(key, [...(byFlow.get(key) ?? []), packet]);
    }
    return {
      flows: [...byFlow.values()].map(factsOf),
      handovers: this.packets.flatMap((packet, at) => {
        const before = this.packets[at - 1];
        if (!before || before.sender === packet.sender) return [];
        return [{ from: before.sender, to: packet.sender, gapMs: (packet.timeUs - before.timeUs) / 1_000 }];
      }),
    };
  }
}

/** One source from the first packet to the last, without a hole or a jump. */
export function assertUnbroken(t: ExecutionContext, { ssrcs, missing, largestStep }: RtpFacts): void {
  t.is(ssrcs.length, 1, "one source");
  t.deepEqual(missing, [], "every packet");
  t.true(largestStep <= STEP_MAX, `no jump: ${largestStep}`);
}

function parse(frame: Buffer, timeUs: number): RtpPacket | undefined {
  const isSix = frame.readUInt16BE(ETHERNET - 2) === IPV6;
  const udp = ETHERNET + (isSix ? IPV6_HEADER : 4 * (frame[ETHERNET]! & 15));
  const rtp = frame.subarray(udp + UDP_HEADER);
  if (rtp.length < RTP_HEADER) return undefined;
  const type = rtp[1]! & 127;
  if (type >= RTCP_FROM && type <= RTCP_TO) return undefined;
  return {
    timeUs,
    sender: hostOf(senderOf(frame)),
    address: addressText(isSix ? frame.subarray(38, 54) : frame.subarray(30, 34)),
    port: frame.readUInt16BE(udp + 2),
    ttl: frame[isSix ? 21 : 22]!,
    ...{ sequence: rtp.readUInt16BE(2), timestamp: rtp.readUInt32BE(4), ssrc: rtp.readUInt32BE(8) },
  };
}

function factsOf(packets: RtpPacket[]): RtpFacts {
  const { address, port, sequence: begin } = packets[0]!;
  const timestamps = new Map<number, number>();
  let highest = begin;
  for (const { sequence, timestamp } of packets) {
    const number = highest + (((sequence - highest) << 16) >> 16); // the nearest that ends so
    highest = Math.max(highest, number);
    timestamps.set(number, timestamp);
  }
  const numbers = [...timestamps.keys()].toSorted((a, b) => a - b);
  const [first = 0] = numbers;
  const all = Array.from({ length: highest - first + 1 }, (_, at) => first + at);
  const steps = numbers.slice(1).map((number, at) => {
    return Math.abs((timestamps.get(number)! - timestamps.get(numbers[at]!)!) | 0);
  });
  return {
    ...{ address, port },
    ttls: [...new Set(packets.map(({ ttl }) => ttl))],
    ssrcs: [...new Set(packets.map(({ ssrc }) => ssrc))],
    senders: packets.map(({ sender }) => sender).filter((sender, at, every) => sender !== every[at - 1]),
    packets: numbers.length,
    duplicates: packets.length - numbers.length,
    missing: all.filter((number) => !timestamps.has(number)),
    largestStep: Math.max(0, ...steps),
  };
}
