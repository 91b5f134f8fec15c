import { once } from "node:events";
import { addressText } from "../../proto/flow.js";
import { add, distance } from "../../proto/sequence.js";
import { closeWithTest } from "./cleanup.js";
import { macOf, spawnOn } from "./host.js";

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

const SNAP = 128;
const READY_MS = 5000;

/** tcpdump on the client's interface; `stop` returns what it saw. */
export class Capture {
  readonly #segments: Segment[] = [];
  readonly #child;
  readonly #ended: Promise<void>;
  #rest: Buffer = Buffer.alloc(0);
  #headerSeen = false;
  #stderr = "";

  private constructor(filter: string) {
    this.#child = spawnOn(
      "client",
      [
        "tcpdump",
        "-i",
        "eth0",
        "-n",
        "-p",
        "-s",
        String(SNAP),
        "-B",
        "65536",
        "--immediate-mode",
        "-U",
        "-w",
        "-",
        filter,
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    this.#child.stdout!.on("data", (chunk: Buffer) => this.#take(chunk));
    this.#ended = once(this.#child, "close").then(() => {});
    closeWithTest(this);
  }

  /** @param filter pcap's language; only TCP from and to port 80 by default */
  static async start(filter = "tcp port 80"): Promise<Capture> {
    const capture = new Capture(filter);
    const deadline = Date.now() + READY_MS;
    while (!capture.#stderr.includes("listening on")) {
      if (Date.now() > deadline || capture.#child.exitCode !== null) {
        throw new Error(`tcpdump does not listen: ${capture.#stderr}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return capture;
  }

  /** What was seen so far; grows while the capture runs. */
  get segments(): readonly Segment[] {
    return this.#segments;
  }

  close(): void {
    this.#child.kill("SIGKILL");
  }

  /** @returns every segment; throws if the kernel dropped some of them */
  async stop(): Promise<readonly Segment[]> {
    this.#child.kill("SIGINT");
    await this.#ended;
    const dropped = /(\d+) packets? dropped by kernel/.exec(this.#stderr);
    if (dropped?.[1] !== "0") throw new Error(`the capture is incomplete: ${this.#stderr}`);
    return this.#segments;
  }

  #take(chunk: Buffer): void {
    let data = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    if (!this.#headerSeen) {
      if (data.length < 24) {
        this.#rest = data;
        return;
      }
      if (data.readUInt32LE(0) !== 0xa1b2c3d4) throw new Error("tcpdump does not write little-endian pcap here");
      data = data.subarray(24);
      this.#headerSeen = true;
    }
    while (data.length >= 16) {
      const captured = data.readUInt32LE(8);
      if (data.length < 16 + captured) break;
      const timeUs = data.readUInt32LE(0) * 1e6 + data.readUInt32LE(4);
      const segment = parseFrame(data.subarray(16, 16 + captured), timeUs);
      if (segment) this.#segments.push(segment);
      data = data.subarray(16 + captured);
    }
    this.#rest = Buffer.from(data);
  }
}

function parseFrame(frame: Buffer, timeUs: number): Segment | undefined {
  const mac = frame.toString("hex", 6, 12).replace(/..(?=.)/g, "$&:");
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
