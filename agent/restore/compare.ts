import { type ConnectionRecord, finPromised, outputEnd } from "../../proto/record.js";
import { distance, type Offset, type Sequence, toOffset, toSequence } from "../../proto/sequence.js";

/**
 * The comparison that a takeover rests on: what a packet of the client acknowledges against what the record promises.
 *
 *   our stream:     0 ......... floor ============================= fin | fin + 1
 *                     outside   |  match, at most 2^29 past the floor   |  finished
 *                               └ the probe's byte is the one before
 *   client's:       0 ......... consumed ........................
 *                     retransmission, says nothing | an answer's sequence number
 *
 * Pure: no clock, no socket. All arithmetic is modulo 2^32 around the record's offsets.
 */

/** How far past the floor anything is sent, bytes: 32-bit acknowledgements stay unambiguous. */
export const FLOOR_WINDOW = 2 ** 29;

/** No window is larger (RFC 7323 section 2.3), so nothing of the client's can lie further past `consumed`. */
const WINDOW_MAX = 2 ** 30;

/** Clocks of two hosts and the way there and back: an echo may seem this much older than the connection. */
const CLOCK_SLACK_MS = 5_000;

const SYN = 0x02;
const RST = 0x04;
const ACK = 0x10;

/** What the record says about any true answer. */
export interface Expectation {
  serverIsn: Sequence;
  floor: Offset;
  /** Behind the last promised byte, the FIN not counted. */
  end: Offset;
  /** Our FIN is promised at `end`. */
  fin: boolean;
  /** What every probe acknowledges: the sequence number at `consumed`. */
  consumed: Sequence;
  timestamps: boolean;
  /** Our tsval when the record was taken, and how much older than that an echo may be, in ticks of the clock. */
  clock: number;
  clockAge: number;
}

/** A packet of the client as the guard reports it. */
export interface Answer {
  seq: Sequence;
  ack: Sequence;
  /** As on the wire. */
  window: number;
  hasTimestamps: boolean;
  tsval: number;
  tsecr: number;
  /** TCP flags: SYN 2, RST 4, ACK 16. */
  flags: number;
}

/** What we have sent: how many probes, and the timestamp of the last one; before the first, the one that it would bear now. */
export interface Probe {
  count: number;
  tsval: number;
}

export type Verdict =
  /** The client has everything below `position`. `echoed`: the packet bears the last probe's timestamp, so it cannot be older. */
  | { kind: "match"; position: Offset; echoed: boolean }
  /** The client has acknowledged our FIN: nothing is left to do. */
  | { kind: "finished" }
  /** The client has no such connection any more. */
  | { kind: "gone" }
  /** Not an answer. Dropped and counted under `reason`. */
  | { kind: "ignore"; reason: string }
  /** An answer that does not fit the record; one more to another probe, saying the same, and the record is refused. */
  | { kind: "outside"; reason: string }
  | { kind: "refused"; reason: string };

export function expectation(record: ConnectionRecord): Expectation {
  const { tcp } = record;
  const fin = finPromised(record);
  const ageMs = Math.max(0, record.takenAtUs - record.bornAtUs) / 1000 + CLOCK_SLACK_MS;
  return {
    serverIsn: tcp.serverIsn,
    floor: record.floor,
    end: outputEnd(record) - (fin ? 1 : 0),
    fin,
    consumed: toSequence(tcp.clientIsn, record.consumed),
    timestamps: tcp.timestamps,
    clock: tcp.timestampClock,
    clockAge: Math.ceil(tcp.timestampUsec ? ageMs * 1000 : ageMs),
  };
}

/** One connection's comparison: remembers the answers that did not fit. */
export class Comparison {
  private outside: { ack: Sequence; probe: number } | undefined;

  constructor(private readonly expected: Expectation) {}

  compare(answer: Answer, probe: Probe): Verdict {
    const verdict = compareAnswer(this.expected, answer, probe);
    if (verdict.kind !== "outside") return verdict;
    // Whoever has no connection to us answers no probe; a forged or late packet does not come once for each of them.
    const first = this.outside;
    if (first?.ack === answer.ack) {
      return probe.count > first.probe ? { kind: "refused", reason: verdict.reason } : verdict;
    }
    this.outside = { ack: answer.ack, probe: probe.count };
    return verdict;
  }
}

/** The comparison of one packet by itself; never "refused". */
export function compareAnswer(expected: Expectation, answer: Answer, probe: Probe): Verdict {
  if (answer.flags & SYN) return { kind: "ignore", reason: "SYN" };
  if (answer.flags & RST) {
    const exact = probe.count > 0 && answer.seq === expected.consumed;
    return exact ? { kind: "gone" } : { kind: "ignore", reason: "inexact RST" };
  }
  if (!(answer.flags & ACK)) return { kind: "ignore", reason: "no ACK" };

  const ahead = distance(expected.consumed, answer.seq);
  if (ahead < 0) return { kind: "ignore", reason: "retransmission" };
  if (ahead > WINDOW_MAX) return { kind: "ignore", reason: "sequence number beyond any window" };

  if (expected.timestamps) {
    if (!answer.hasTimestamps) return { kind: "ignore", reason: "no timestamps" }; // RFC 7323 section 3.2
    if (!plausibleEcho(expected, answer.tsecr, probe)) return { kind: "ignore", reason: "implausible timestamp echo" };
  }

  const position = toOffset(expected.serverIsn, answer.ack, expected.floor);
  if (expected.fin && position === expected.end + 1 && position <= expected.floor + FLOOR_WINDOW) {
    return { kind: "finished" };
  }
  const reason = outsideReason(expected, position);
  if (reason) return probe.count > 0 ? { kind: "outside", reason } : { kind: "ignore", reason };
  return { kind: "match", position, echoed: expected.timestamps && probe.count > 0 && answer.tsecr === probe.tsval };
}

function outsideReason({ floor, end }: Expectation, position: Offset): string | undefined {
  if (position < floor) return "acknowledgement below the floor";
  if (position > floor + FLOOR_WINDOW) return "acknowledgement too far past the floor";
  if (position > end) return "acknowledgement beyond the output";
  return undefined;
}

/**
 * An echo is a timestamp of ours: of the dead server since the connection's birth, or of our probes, which carry its clock
 * on. A connection older than half the clock's round (24 days; 36 minutes of a microsecond clock) may echo anything.
 */
function plausibleEcho(expected: Expectation, tsecr: number, probe: Probe): boolean {
  const age = distance(tsecr, probe.tsval);
  const span = Math.max(0, distance(expected.clock, probe.tsval)) + expected.clockAge;
  return span >= 2 ** 31 || (age >= 0 && age <= span);
}
