import {
  beginningOf,
  type Item,
  type Lane,
  type LanePosition,
  type Read,
  type Reporting,
  Schedule,
  Stream,
  type Track,
} from "../../../agent/media/index.js";

export const REPORTING: Reporting = { cname: "s1@192.0.2.1", wallUs: 1_790_000_000_123_456, reportUs: 500_000 };

/** A lane of all samples, or of some. */
export function laneOf(
  track: Track,
  start: Partial<Stream["start"]> = {},
  samples: [number, number] = [0, track.samples.count],
): Lane {
  const all = {
    ssrc: 0xfeedbee0 + track.number,
    payloadType: 95 + track.number,
    sequence: 65_530,
    timestamp: 4_294_960_000,
  };
  const stream = new Stream(track, { ...all, startUs: 0, payloadMax: 1_000, ...start });
  return { stream, firstSample: samples[0], endSample: samples[1] };
}

/** Everything from a position on. @param step how far it goes each time, microseconds */
export async function play(
  lanes: Lane[],
  reads: Read[],
  positions: LanePosition[] = lanes.map(beginningOf),
  reporting = REPORTING,
  step = 100_000,
): Promise<{ items: Item[]; positions: LanePosition[][] }> {
  const schedule = new Schedule(lanes, positions, reporting);
  const list: Item[] = [];
  const passed: LanePosition[][] = [schedule.position];
  let now = 0;
  while (schedule.nextUs !== undefined) {
    if (schedule.nextUs > now) now = Math.max(schedule.nextUs, now + step);
    for (const wanted of schedule.wanted(now)) {
      schedule.supply(wanted, await (reads[wanted.lane] as Read)(wanted.offset, wanted.size));
    }
    for (let items = schedule.due(now, 1); items.length > 0; items = schedule.due(now, 1)) {
      list.push(...items);
      passed.push(schedule.position);
    }
  }
  return { items: list, positions: passed };
}

export function packetsOf(items: Item[], lane: number): Buffer[] {
  return items.filter((item) => item.kind === "rtp" && item.lane === lane).map(({ bytes }) => bytes);
}
