import type { RtspTrack } from "../../../proto/sections.js";
import { type Item, parseFeedback } from "../../media/index.js";
import type { BundlePort, DatagramFlow, Group } from "../application.js";

/** A track's flows: RTP and RTCP. */
type Pair = Record<Item["kind"], DatagramFlow>;

/** The flows of datagrams of a session whose tracks are sent so; open from its first PLAY to its end. */
export class MediaFlows {
  private readonly pairs = new Map<number, Pair>();
  private opening: Promise<void> | undefined;
  private closed = false;
  private hasSent = false;
  private heardAt = performance.now();

  constructor(
    private readonly bundle: BundlePort,
    private readonly tracks: readonly RtspTrack[],
    /** Where they go to it instead of to the client. */
    private readonly group?: Pick<Group, "address" | "ttl">,
  ) {}

  /** Opens what is not open yet. Rejects as BundlePort.openDatagrams; then it may be tried again. */
  open(): Promise<void> {
    this.opening ??= this.openAll().finally(() => {
      this.opening = undefined;
    });
    return this.opening;
  }

  /** All are there, and may send. */
  get areOpen(): boolean {
    return this.pairs.size === this.tracks.length && this.flows.every(({ isOpen }) => isOpen);
  }

  /** Resolves when none of those that are there stands still any more. */
  async thawed(): Promise<void> {
    await Promise.all(this.flows.map((flow) => flow.thawed()));
  }

  /** The kernel has everything that was sent. */
  get areIdle(): boolean {
    return !this.closed && this.flows.every(({ pending }) => pending === 0);
  }

  /** Since the client was last heard on any of them or elsewhere, milliseconds. */
  get quietMs(): number {
    return performance.now() - this.heardAt;
  }

  /** It was heard elsewhere. */
  heard(): void {
    this.heardAt = performance.now();
  }

  /** @param track its number */
  send(track: number, kind: Item["kind"], packet: Buffer): void {
    this.hasSent = true;
    this.pairs.get(track)?.[kind].send(packet);
  }

  close(): void {
    this.closed = true;
    for (const flow of this.flows) flow.close();
    this.pairs.clear();
  }

  private get flows(): DatagramFlow[] {
    return [...this.pairs.values()].flatMap(({ rtp, rtcp }) => [rtp, rtcp]);
  }

  private async openAll(): Promise<void> {
    const outcomes = await Promise.allSettled(this.tracks.map((track) => this.openPair(track)));
    if (this.closed) this.close();
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  }

  private async openPair({ number, ssrc, rtp, rtcp, serverRtp, serverRtcp }: RtspTrack): Promise<void> {
    if (this.pairs.has(number)) return;
    const reported = (datagram: Buffer) => (isReportOf(ssrc, datagram) ? this.heard() : this.opened());
    const first = await this.openOne(serverRtp, rtp, () => this.opened());
    try {
      if (this.closed) throw new Error("closed meanwhile");
      this.pairs.set(number, { rtp: first, rtcp: await this.openOne(serverRtcp, rtcp, reported) });
    } catch (error) {
      first.close();
      throw error;
    }
  }

  private openOne(vipPort: number, port: number, received: (datagram: Buffer) => void): Promise<DatagramFlow> {
    if (this.group) {
      const { address, ttl } = this.group;
      return this.bundle.openGroup(vipPort, { address, port, ttl });
    }
    return this.bundle.openDatagrams(vipPort, port, received);
  }

  /** Before there are media a client opens a way for them, with whatever it likes. */
  private opened(): void {
    if (!this.hasSent) this.heard();
  }
}

/** A receiver's report about that source, or about none: nothing has come, but there is somebody who waits for it. */
function isReportOf(ssrc: number, datagram: Buffer): boolean {
  return parseFeedback(datagram).some(
    (one) =>
      one.kind === "report" && (one.receptions.length === 0 || one.receptions.some((about) => about.ssrc === ssrc)),
  );
}
