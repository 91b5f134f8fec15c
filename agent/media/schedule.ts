import { MediaError } from "./error.js";
import { type Fragment, fragmentsOf, lengthOf } from "./fragments.js";
import type { Lane, LanePosition } from "./lane.js";
import { reportPacket } from "./report.js";

/** One thing to be sent. */
export interface Item {
  /** Whose it is. */
  lane: number;
  kind: "rtp" | "rtcp";
  /** When, microseconds from the range's start. */
  sendUs: number;
  bytes: Buffer;
}

/** A sample whose bytes must be read from the file before it can be sent. */
export interface Wanted {
  lane: number;
  sample: number;
  /** In the file. */
  offset: number;
  /** Bytes, more than 0. */
  size: number;
}

/** What the senders' reports say, and when. */
export interface Reporting {
  /** One for all lanes, at most 255 bytes. */
  cname: string;
  /** Unix time at the range's start, microseconds. */
  wallUs: number;
  /** From one report of a lane to the next, microseconds; the first one goes out with its first packet. */
  reportUs: number;
}

/** Samples of a lane that may be supplied before they are due, and their bytes; one sample always may. */
const AHEAD_MAX = 32;
const AHEAD_BYTES_MAX = 2 * 2 ** 20;
const NOTHING = Buffer.alloc(0);

/** A lane's next packet, its sample cut up. "unknown": its bytes are needed first; "end": there is none; or why there cannot be one. */
type Head = "unknown" | "end" | MediaError | Cut;
interface Cut {
  fragments: Fragment[];
  data: Buffer;
}

/** What a lane has next, and when at the earliest. */
interface Next {
  lane: number;
  kind: "rtp" | "rtcp" | "unknown" | MediaError;
  sendUs: number;
}

/**
 * All that is sent in a range, in one order: by time; at the same time by lane; in a lane a report before a packet. The order and
 * every byte follow from the lanes, the positions begun at and `reporting` alone: not from when and in what portions `due` is called,
 * nor from when samples are supplied. So whoever begins at a position that somebody else has reached goes on with the same bytes, also
 * where they are part of a TCP stream.
 *
 *   loop   for (const wanted of schedule.wanted(now + ahead)) schedule.supply(wanted, await read(wanted.offset, wanted.size))
 *          for (const item of schedule.due(now, 100)) send(item)
 *          sleep until schedule.nextUs
 */
export class Schedule {
  private readonly positions: LanePosition[];
  private readonly supplied: Array<Map<number, Buffer>>;
  private readonly heads: Array<Head | undefined>;

  /** @param positions one a lane: `beginningOf` each, or what `position` was */
  constructor(
    private readonly lanes: readonly Lane[],
    positions: readonly LanePosition[],
    private readonly reporting: Reporting,
  ) {
    this.positions = positions.map((position) => ({ ...position }));
    this.supplied = lanes.map(() => new Map());
    this.heads = lanes.map(() => undefined);
  }

  /** Behind the last item that `due` gave out. */
  get position(): LanePosition[] {
    return this.positions.map((position) => ({ ...position }));
  }

  /** Everything has been given out. Where the last samples are empty it takes no more than a call of `due` to know. */
  get ended(): boolean {
    return this.positions.every(({ sample }, lane) => sample >= (this.lanes[lane] as Lane).endSample);
  }

  /** When there is something to do next, at the earliest; undefined: never. */
  get nextUs(): number | undefined {
    const first = this.earliest();
    return first?.sendUs;
  }

  /** Samples that are due up to `untilUs` and not supplied, in the order in which each lane needs them. A bounded number of them. */
  wanted(untilUs: number): Wanted[] {
    const list: Wanted[] = [];
    for (const [lane, { stream, endSample }] of this.lanes.entries()) {
      const { sample: first, reports } = this.positions[lane] as LanePosition;
      const { samples } = stream.track;
      // Whether a report goes out is only known with the packet behind it.
      const reportUs = reports * this.reporting.reportUs;
      let bytes = 0;
      for (let sample = first; sample < Math.min(endSample, first + AHEAD_MAX); sample++) {
        bytes += samples.size(sample);
        if (bytes > AHEAD_BYTES_MAX && sample > first) break;
        if (stream.sampleUs(sample) > untilUs && (sample > first || reportUs > untilUs)) break;
        if (samples.size(sample) === 0 || this.supplied[lane]?.has(sample)) continue;
        list.push({ lane, sample, offset: samples.offset(sample), size: samples.size(sample) });
      }
    }
    return list;
  }

  /**
   * @param data exactly the bytes that were wanted; they are kept until the sample is sent, and must not be changed
   * Throws MediaError where they are fewer: the file is not what it was.
   */
  supply({ lane, sample }: Pick<Wanted, "lane" | "sample">, data: Buffer): void {
    const { stream } = this.lanes[lane] as Lane;
    if (data.length !== stream.track.samples.size(sample))
      throw new MediaError("malformed", "the file ends within a sample");
    if (sample >= (this.positions[lane] as LanePosition).sample) this.supplied[lane]?.set(sample, data);
  }

  /**
   * The next items up to `untilUs`, at most `max`: fewer where a sample is wanted first.
   * Throws MediaError where a sample is not what it should be, once all that comes before it has been given out: the range cannot go on.
   */
  due(untilUs: number, max: number): Item[] {
    const items: Item[] = [];
    while (items.length < max) {
      const next = this.earliest();
      if (!next || next.sendUs > untilUs || next.kind === "unknown") break;
      if (next.kind instanceof MediaError) {
        if (items.length > 0) break;
        throw next.kind;
      }
      items.push(next.kind === "rtcp" ? this.report(next.lane, next.sendUs) : this.packet(next.lane, next.sendUs));
    }
    return items;
  }

  private earliest(): Next | undefined {
    let first: Next | undefined;
    for (let lane = 0; lane < this.lanes.length; lane++) {
      const next = this.next(lane);
      if (next && (!first || next.sendUs < first.sendUs)) first = next;
    }
    return first;
  }

  private next(lane: number): Next | undefined {
    const head = this.head(lane);
    if (head === "end") return undefined;
    const { stream } = this.lanes[lane] as Lane;
    const { sample, fragment, reports } = this.positions[lane] as LanePosition;
    const reportUs = reports * this.reporting.reportUs;
    // A report goes out only where a packet follows it: as long as that is not known, not even when it would be due.
    if (head === "unknown" || head instanceof MediaError) {
      return { lane, kind: head, sendUs: Math.min(reportUs, stream.sampleUs(sample)) };
    }
    const sendUs = stream.sendUs(sample, fragment, head.fragments.length);
    return reportUs <= sendUs ? { lane, kind: "rtcp", sendUs: reportUs } : { lane, kind: "rtp", sendUs };
  }

  /** The lane's next packet. Passes over samples that have none. */
  private head(lane: number): Head {
    const present = this.heads[lane];
    if (present !== undefined && present !== "unknown") return present;
    const head = this.findHead(lane);
    this.heads[lane] = head;
    return head;
  }

  private findHead(lane: number): Head {
    const { stream, endSample } = this.lanes[lane] as Lane;
    const { track, start } = stream;
    const position = this.positions[lane] as LanePosition;
    for (; position.sample < endSample; this.leave(lane)) {
      const size = track.samples.size(position.sample);
      const data = size === 0 ? NOTHING : this.supplied[lane]?.get(position.sample);
      if (!data) return "unknown";
      try {
        const fragments = fragmentsOf(track, position.sample, data, start.payloadMax);
        if (fragments.length > 0) return { fragments, data };
      } catch (error) {
        if (error instanceof MediaError) return error;
        throw error;
      }
    }
    return "end";
  }

  private leave(lane: number): void {
    const position = this.positions[lane] as LanePosition;
    this.supplied[lane]?.delete(position.sample);
    position.sample++;
    position.fragment = 0;
  }

  private packet(lane: number, sendUs: number): Item {
    const { stream } = this.lanes[lane] as Lane;
    const position = this.positions[lane] as LanePosition;
    const { fragments, data } = this.heads[lane] as Cut;
    const fragment = fragments[position.fragment] as Fragment;
    const bytes = stream.packet(position.packets, position.sample, fragment, data);
    position.packets++;
    position.octets += lengthOf(fragment);
    position.fragment++;
    if (position.fragment === fragments.length) {
      this.leave(lane);
      this.heads[lane] = undefined;
    }
    return { lane, kind: "rtp", sendUs, bytes };
  }

  private report(lane: number, sendUs: number): Item {
    const { stream } = this.lanes[lane] as Lane;
    const position = this.positions[lane] as LanePosition;
    const { packets, octets } = position;
    const { cname, wallUs } = this.reporting;
    const said = { ssrc: stream.start.ssrc, wallUs: wallUs + sendUs, timestamp: stream.timestampAt(sendUs) };
    position.reports++;
    return { lane, kind: "rtcp", sendUs, bytes: reportPacket({ ...said, packets, octets }, cname) };
  }
}
