import { lengthOf, readFragments } from "./fragments.js";
import { type Lane, type LanePosition, reportsBefore } from "./lane.js";
import type { Read } from "./read.js";
import type { Track } from "./track.js";

/** Samples that are looked at together. */
const BATCH = 32;

/**
 * How many packets each sample of a track has, and of how many bytes: what a packet's number and a report's counts are sums of. For
 * sound that follows from the index; for pictures the lengths of the NAL units must be read from the file. That is done where it is
 * needed first, some bytes a unit and some 20 us a picture, and kept, 8 bytes a sample. One table serves all who send the file in
 * packets of one size.
 */
export class PacketTable {
  /** One more than the packets; 0: not known. */
  private readonly packets: Uint32Array;
  private readonly octets: Uint32Array;

  /** @param payloadMax as in StreamStart */
  constructor(
    private readonly track: Track,
    private readonly payloadMax: number,
    private readonly read: Read,
  ) {
    this.packets = new Uint32Array(track.samples.count);
    this.octets = new Uint32Array(track.samples.count);
  }

  /** Samples from `from` on and below `to` become known. Throws MediaError; whatever `read` throws. */
  async fill(from: number, to: number): Promise<void> {
    for (let batch = from; batch < to; batch += BATCH) {
      const samples = Array.from({ length: Math.min(BATCH, to - batch) }, (_, i) => batch + i);
      const unknown = samples.filter((sample) => this.packets[sample] === 0);
      if (unknown.length > 0) await Promise.all(unknown.map((sample) => this.measure(sample)));
    }
  }

  /**
   * Where packet `number` of the lane is. Behind the last one: the lane's end.
   * @param from any position of the lane at or before it: its beginning, or a later one that was kept, which spares the reading between
   * Throws as `fill`.
   */
  async locate(lane: Lane, from: LanePosition, number: number, reportUs: number): Promise<LanePosition> {
    return this.walk(lane, from, reportUs, (_, packets, count) =>
      number < packets + count ? number - packets : undefined,
    );
  }

  /** Where the lane is when everything due before `us` has been sent, microseconds from the range's start. Otherwise as `locate`. */
  async locateTime(lane: Lane, from: LanePosition, us: number, reportUs: number): Promise<LanePosition> {
    const { stream } = lane;
    const position = await this.walk(lane, from, reportUs, (sample, _, count) => {
      if (stream.sendUs(sample, count - 1, count) < us) return undefined;
      let fragment = 0;
      while (stream.sendUs(sample, fragment, count) < us) fragment++;
      return fragment;
    });
    return { ...position, reports: Math.min(position.reports, Math.ceil(us / reportUs)) };
  }

  /** Goes on sample by sample until `found` says which of its `count` > 0 packets is the one. */
  private async walk(
    lane: Lane,
    from: LanePosition,
    reportUs: number,
    found: (sample: number, packets: number, count: number) => number | undefined,
  ): Promise<LanePosition> {
    let [packets, octets] = [from.packets - from.fragment, from.octets];
    if (from.fragment > 0) octets -= await this.octetsBefore(from.sample, from.fragment);
    let reports = from.reports;
    for (let sample = from.sample; sample < lane.endSample; sample++) {
      if (this.packets[sample] === 0) await this.fill(sample, Math.min(lane.endSample, sample + BATCH));
      const count = (this.packets[sample] as number) - 1;
      if (count === 0) continue;
      const fragment = found(sample, packets, count);
      if (fragment !== undefined) {
        octets += await this.octetsBefore(sample, fragment);
        packets += fragment;
        // Reports due with this packet go ahead of it.
        const due = reportsBefore(lane.stream.sendUs(sample, fragment, count), reportUs);
        return { sample, fragment, packets, octets, reports: due };
      }
      packets += count;
      octets += this.octets[sample] as number;
      reports = reportsBefore(lane.stream.sendUs(sample, count - 1, count), reportUs);
    }
    return { sample: lane.endSample, fragment: 0, packets, octets, reports };
  }

  private async octetsBefore(sample: number, fragment: number): Promise<number> {
    if (fragment === 0) return 0;
    const fragments = await readFragments(this.track, sample, this.payloadMax, this.read);
    return fragments.slice(0, fragment).reduce((sum, one) => sum + lengthOf(one), 0);
  }

  private async measure(sample: number): Promise<void> {
    const fragments = await readFragments(this.track, sample, this.payloadMax, this.read);
    this.packets[sample] = fragments.length + 1;
    this.octets[sample] = fragments.reduce((sum, one) => sum + lengthOf(one), 0);
  }
}
