import { add, distance } from "../../proto/sequence.js";
import type { Capture, Segment } from "./capture.js";
import { closeWithTest } from "./cleanup.js";
import { eventually } from "./eventually.js";
import { Forger } from "./forger.js";
import { macOf, runOn, VIP } from "./host.js";
import { freshPort } from "./ports.js";

const ADDRESS = "10.77.0.11";
const ACK = 16;
const PSH = 8;
const SYN = 2;
const WINDOW = 65_535;
const POLL_MS = 2;

/** What a segment of the server's is answered with; undefined: nothing. */
export type Answer = { seq: number; ack: number } | undefined;

/**
 * A TCP client played by hand: no kernel has its socket, so it can say what no kernel would. No options but none are
 * offered: segments of at most 536 bytes, a window of 64 KiB. It sees headers only, through a capture of the client's port.
 */
export class Puppet {
  readonly port = freshPort();
  /** Next sequence number of its own. */
  seq = Math.floor(Math.random() * 2 ** 32);
  /** Behind the last byte that came in order. */
  received = 0;
  /** What came from the server, in order of arrival. */
  readonly heard: Segment[] = [];
  /** Decides what is said to each segment with payload; an ordinary client's answer by default. */
  answer: (segment: Segment) => Answer = () => ({ seq: this.seq, ack: this.received });

  readonly #forger: Forger;
  readonly #capture: Capture;
  readonly #timer: NodeJS.Timeout;
  #read = 0;

  private constructor(forger: Forger, capture: Capture) {
    this.#forger = forger;
    this.#capture = capture;
    closeWithTest(this);
    this.#timer = setInterval(() => this.#listen(), POLL_MS);
  }

  /** @param capture a running one of the client's interface */
  static async start(capture: Capture, servers: string[]): Promise<Puppet> {
    // Nobody has this address, so nobody answers for it: the servers are told where it is.
    const mac = macOf("client");
    for (const server of servers) {
      await runOn(server, "ip", "neigh", "replace", ADDRESS, "lladdr", mac, "dev", "eth0", "nud", "permanent");
    }
    return new Puppet(await Forger.start(), capture);
  }

  async connect(): Promise<void> {
    const isn = this.seq;
    await this.send(SYN, {}, isn, 0);
    const answer = await eventually("the SYN-ACK", () => this.heard.find((one) => one.syn));
    this.seq = add(isn, 1);
    this.received = add(answer.seq, 1);
    await this.send(ACK, {});
  }

  async write(text: string): Promise<void> {
    const payload = Buffer.from(text);
    const seq = this.seq;
    this.seq = add(seq, payload.length);
    await this.send(ACK | PSH, { payload }, seq);
  }

  send(flags: number, more: { payload?: Buffer } = {}, seq = this.seq, ack = this.received): Promise<number> {
    const ends = { local: { address: ADDRESS, port: this.port }, remote: { address: VIP, port: 80 } };
    return this.#forger.send({ ...ends, seq, ack, flags, window: WINDOW, ...more });
  }

  close(): void {
    clearInterval(this.#timer);
    this.#forger.close();
  }

  #listen(): void {
    const { segments } = this.#capture;
    for (; this.#read < segments.length; this.#read++) {
      const segment = segments[this.#read]!;
      if (segment.fromClient || segment.client.port !== this.port) continue;
      this.heard.push(segment);
      if (segment.syn || segment.rst || segment.payload === 0) continue;
      const end = add(segment.seq, segment.payload);
      // In order, or not at all: this client keeps nothing that comes early.
      if (distance(segment.seq, this.received) >= 0 && distance(this.received, end) > 0) this.received = end;
      const answer = this.answer(segment);
      if (answer) void this.send(ACK, {}, answer.seq, answer.ack);
    }
  }
}
