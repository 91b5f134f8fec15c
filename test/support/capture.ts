import { addressText } from "../../proto/flow.js";
import { add, distance } from "../../proto/sequence.js";
import { Frames, senderOf } from "./frames.js";
import { hostOf, macOf } from "./host.js";

/** One TCP segment as the client's interface saw it. */
export interface Segment {
  timeUs: number;
  fromClient: boolean;
  /** Source MAC: with direct server return it names the server. */
  mac: string;
  client: { address: string; port: number };
  vip: { address: string; port: number };
  seq: number;
  ack: number;
  syn: boolean;
  fin: boolean;
  rst: boolean;
  payload: number;
  window: number;
  tsval: number;
  tsecr: number;
}

/** What a capture says about one connection of the client's. */
export interface ConnectionFacts {
  /** Initial sequence numbers of the client's SYNs: one means one TCP connection. */
  clientIsns: number[];
  serverIsns: number[];
  resets: Segment[];
  serverFins: Segment[];
  clientFins: Segment[];
  /** Segments with payload below what that side had sent before. */
  clientRetransmissions: number;
  serverRetransmissions: number;
  /** MAC addresses in the order in which they first sent payload. */
  senders: string[];
  /** Between two segments of the server that carried payload. */
  longestGapUs: number;
}

/** The TCP segments of the client's interface; `stop` returns what it saw. */
export class Capture {
  readonly #segments: Segment[] = [];
  readonly #frames: Promise<Frames>;

  private constructor(filter: string) {
    this.#frames = Frames.start(filter, (frame, timeUs) => {
      const segment = parseFrame(frame, timeUs);
      if (segment) this.#segments.push(segment);
    });
  }

  /** @param filter pcap's language; only TCP from and to port 80 by default */
  static async start(filter = "tcp port 80"): Promise<Capture> {
    const capture = new Capture(filter);
    await capture.#frames;
    return capture;
  }

  /** What was seen so far; grows while the capture runs. */
  get segments(): readonly Segment[] {
    return this.#segments;
  }

  /** @returns every segment; throws if the kernel dropped some of them */
  async stop(): Promise<readonly Segment[]> {
    await (await this.#frames).stop();
    return this.#segments;
  }
}

function parseFrame(frame: Buffer, timeUs: number): Segment | undefined {
  const mac = senderOf(frame);
  const ipv6 = frame.readUInt16BE(12) === 0x86dd;
  if (!ipv6 && frame.readUInt16BE(12) !== 0x0800) return undefined;
  const tcp = 14 + (ipv6 ? 40 : (frame[14]! & 15) * 4);
  if (frame[ipv6 ? 20 : 23] !== 6 || frame.length < tcp + 20) return undefined;
  const segmentBytes = ipv6 ? frame.readUInt16BE(18) : frame.readUInt16BE(16) - (tcp - 14);
  const headerBytes = (frame[tcp + 12]! >> 4) * 4;
  const flags = frame[tcp + 13]!;
  const fromClient = mac === macOf("client");
  const [source, destination] = ipv6
    ? [frame.subarray(22, 38), frame.subarray(38, 54)]
    : [frame.subarray(26, 30), frame.subarray(30, 34)];
  const from = { address: addressText(source), port: frame.readUInt16BE(tcp) };
  const to = { address: addressText(destination), port: frame.readUInt16BE(tcp + 2) };
  return {
    timeUs,
    fromClient,
    mac,
    client: fromClient ? from : to,
    vip: fromClient ? to : from,
    seq: frame.readUInt32BE(tcp + 4),
    ack: frame.readUInt32BE(tcp + 8),
    fin: (flags & 1) !== 0,
    syn: (flags & 2) !== 0,
    rst: (flags & 4) !== 0,
    payload: segmentBytes - headerBytes,
    window: frame.readUInt16BE(tcp + 14),
    ...timestampsOf(frame.subarray(tcp + 20, Math.min(frame.length, tcp + headerBytes))),
  };
}

function timestampsOf(options: Buffer): { tsval: number; tsecr: number } {
  for (let at = 0; at + 1 < options.length && options[at] !== 0; ) {
    if (options[at] === 1) {
      at++;
      continue;
    }
    if (options[at] === 8 && at + 10 <= options.length) {
      return { tsval: options.readUInt32BE(at + 2), tsecr: options.readUInt32BE(at + 6) };
    }
    at += Math.max(options[at + 1]!, 2);
  }
  return { tsval: 0, tsecr: 0 };
}

/** Who sent to these ports of the client's, one after the other; whoever is named again has sent after another one had begun to. */
export function sendersTo(ports: ReadonlySet<number>, segments: readonly Segment[]): string[] {
  const senders: string[] = [];
  for (const { fromClient, mac, client } of segments) {
    if (!fromClient && ports.has(client.port) && senders.at(-1) !== hostOf(mac)) senders.push(hostOf(mac));
  }
  return senders;
}

/** Sums up one connection by the client's port. */
export function factsOf(segments: readonly Segment[], clientPort: number): ConnectionFacts {
  const facts: ConnectionFacts = {
    clientIsns: [],
    serverIsns: [],
    resets: [],
    serverFins: [],
    clientFins: [],
    clientRetransmissions: 0,
    serverRetransmissions: 0,
    senders: [],
    longestGapUs: 0,
  };
  const highest: { client?: number; server?: number } = {};
  let lastPayloadUs = 0;
  for (const segment of segments) {
    if (segment.client.port !== clientPort) continue;
    const side = segment.fromClient ? "client" : "server";
    if (segment.rst) facts.resets.push(segment);
    if (segment.syn) {
      const isns = segment.fromClient ? facts.clientIsns : facts.serverIsns;
      if (!isns.includes(segment.seq)) isns.push(segment.seq);
    }
    if (segment.fin) (segment.fromClient ? facts.clientFins : facts.serverFins).push(segment);
    if (segment.payload <= 0) continue;

    const end = add(segment.seq, segment.payload);
    const known = highest[side];
    if (known !== undefined && distance(known, end) <= 0) {
      // A probe repeats one byte that was acknowledged long ago; it is no retransmission.
      if (segment.payload > 1) facts[`${side}Retransmissions`]++;
      continue;
    }
    highest[side] = end;
    if (segment.fromClient) continue;
    if (!facts.senders.includes(segment.mac)) facts.senders.push(segment.mac);
    if (lastPayloadUs > 0) facts.longestGapUs = Math.max(facts.longestGapUs, segment.timeUs - lastPayloadUs);
    lastPayloadUs = segment.timeUs;
  }
  return facts;
}
