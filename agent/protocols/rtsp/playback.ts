import { RefusedError } from "../../../proto/errors.js";
import type { RtspLane, RtspRange } from "../../../proto/sections.js";
import {
  type Item,
  type Lane,
  type LanePosition,
  reportPacket,
  Schedule,
  Stream,
  type Track,
} from "../../media/index.js";
import type { Film } from "./films.js";

/** Between two items: where the lanes are, and when the next one is due, microseconds from the range's start; Infinity: there is none. */
export interface Mark {
  positions: LanePosition[];
  us: number;
}

/** Items that are taken at a time. */
const BATCH = 64;

/** A range's packets in their order, made from the file as they are asked for: the same for everybody who has the same range. */
export class Playback {
  private readonly lanes: Lane[];
  private readonly schedule: Schedule;

  /** Throws RefusedError where the film has no such track. */
  constructor(
    readonly range: RtspRange,
    private readonly film: Film,
  ) {
    this.lanes = range.lanes.map((lane) => laneOf(lane, range, film));
    this.schedule = new Schedule(this.lanes, range.lanes, range);
  }

  get positions(): LanePosition[] {
    return this.schedule.position;
  }
  /** When the next item is due, microseconds from the range's start; undefined: there is none. */
  get nextUs(): number | undefined {
    return this.schedule.nextUs;
  }
  /** Behind what was collected. */
  get mark(): Mark {
    return { positions: this.positions, us: this.nextUs ?? Number.POSITIVE_INFINITY };
  }
  get ended(): boolean {
    return this.schedule.ended;
  }

  stream(lane: number): Stream {
    return (this.lanes[lane] as Lane).stream;
  }

  /**
   * What is due up to `untilUs`, and not much more than `bytesMax`. Throws MediaError, or whatever reading throws, where nothing comes
   * before what cannot be made.
   */
  async collect(untilUs: number, bytesMax: number, itemsMax = Number.POSITIVE_INFINITY): Promise<Item[]> {
    const items: Item[] = [];
    try {
      for (let bytes = 0; bytes < bytesMax && items.length < itemsMax; ) {
        const due = this.schedule.due(untilUs, Math.min(BATCH, itemsMax - items.length));
        if (due.length === 0 && !(await this.supply(untilUs))) break;
        for (const item of due) bytes += item.bytes.length;
        items.push(...due);
      }
    } catch (error) {
      if (items.length === 0) throw error; // it comes again
    }
    return items;
  }

  /** For each track: that nothing more will come of its source (RFC 3550 section 6.6). */
  goodbyes(elapsedUs: number): Array<{ lane: number; bytes: Buffer }> {
    const { cname, wallUs } = this.range;
    return this.positions.map(({ packets, octets }, lane) => {
      const stream = this.stream(lane);
      const us = Math.floor(Math.max(0, elapsedUs));
      const report = {
        ssrc: stream.start.ssrc,
        wallUs: wallUs + us,
        timestamp: stream.timestampAt(us),
        packets,
        octets,
      };
      return { lane, bytes: reportPacket(report, cname, true) };
    });
  }

  /** @returns whether anything was wanting */
  private async supply(untilUs: number): Promise<boolean> {
    const wanted = this.schedule.wanted(untilUs);
    const found = await Promise.all(wanted.map(({ offset, size }) => this.film.read(offset, size)));
    for (const [at, one] of wanted.entries()) this.schedule.supply(one, found[at] as Buffer);
    return wanted.length > 0;
  }
}

function laneOf(lane: RtspLane, { startUs, payloadMax }: RtspRange, film: Film): Lane {
  const { ssrc, payloadType, sequence, timestamp, sample, endSample } = lane;
  const track = trackOf(film, lane.track);
  if (!track || endSample > track.samples.count) throw new RefusedError("object changed", "the film has other tracks");
  const stream = new Stream(track, { ssrc, payloadType, sequence, timestamp, startUs, payloadMax });
  return { stream, firstSample: sample, endSample };
}

export function trackOf({ movie }: Film, number: number): Track | undefined {
  return movie.tracks.find((track) => track.number === number);
}
