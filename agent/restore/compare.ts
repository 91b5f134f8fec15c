import { type ConnectionRecord, pieceLength } from "../../proto/record.js";
import { add, distance, type Offset, type Sequence, toOffset, toSequence } from "../../proto/sequence.js";
import { widestWindow } from "./receive_window.js";

/**
 * The comparison that a takeover rests on: what a packet of the client acknowledges against what the record promises.
 *
 *   our stream:     0 ......... floor ============================= fin | fin + 1
 *                     outside   |  match, at most 2^29 past the floor   |  finished
 *                               └ the probe's byte is the one before
 *   client's:       0 ......... consumed ........................
 *                             │ an answer's sequence number
 *         data: a retransmission, says nothing
 *         none: an answer, if it fits
 *
 * What was taken in may never have been acknowledged: the dead server's acks were clamped to its records, and a clamp that lasts shuts
 * the window. Acks of a client whose window is shut carry the place where it believes the window to end (tcp_acceptable_seq, net/ipv4),
 * which lies below `consumed` then, probe after probe. An old packet lies there, too: what says so is an answer once it comes again to a later probe.
 *
 * Pure: no clock, no socket. All arithmetic is modulo 2^32 around the record's offsets.
 */

/** How far past the floor anything is sent, bytes: 32-bit acknowledgements stay unambiguous. */
export const FLOOR_WINDOW = 2 ** 29;

/** No window is larger (RFC 7323 section 2.3), so nothing of the client's can lie further past `consumed`. */
const WINDOW_MAX = 2 ** 30;

/** Clocks of hosts differ, and every takeover moves the connection's clock ahead: an echo may seem this much older than the connection. */
const CLOCK_SLACK_US = 60_000_000;

/** The dead server's clock may have been ahead of what its record lets expect here: hosts' wall clocks differ. */
const CLOCK_SLACK_TICKS = 60_000;

const FIN = 0x01;
const SYN = 0x02;
const RST = 0x04;
const ACK = 0x10;

/** What the record says about any true answer. */
export interface Expectation {
  clientIsn: Sequence;
  serverIsn: Sequence;
  floor: Offset;
  /** Behind everything promised, our FIN included. */
  tail: Offset;
  /** Where our FIN is promised. */
  finOffset: Offset | undefined;
  /** Client stream that was taken in, its FIN included: what every probe acknowledges. */
  consumed: Offset;
  /** The most that the client may have sent, and had taken in, of which it was not told, bytes. */
  window: number;
  /** Negotiated. */
  timestamps: boolean;
  /** Our timestamp clock when the connection began or a little earlier (see `earliestClock`); undefined = any echo is old enough. */
  earliestClock?: number | undefined;
  /** The echo must be the last probe's timestamp itself: nothing else shows that the client has this connection. */
  nonce: boolean;
}

/** A packet of the client as the guard reports it. */
export interface Answer {
  seq: Sequence;
  ack: Sequence;
  /** As on the wire. */
  window: number;
  /** Bytes of data in the packet. */
  payload: number;
  hasTimestamps: boolean;
  tsval: number;
  tsecr: number;
  /** TCP flags: FIN 1, SYN 2, RST 4, ACK 16. */
  flags: number;
}

/** What we have sent: how many probes, and the timestamp of the last one; before the first, the one that it would bear now. */
export interface Probe {
  count: number;
  tsval: number;
}

export type Verdict =
  | Judgement
  /** It says so from below what was taken in, and may be old: the same to a later probe counts. */
  | { kind: "doubtful"; says: Judgement };

type Judgement =
  /** The client has everything below `position`. `echoed`: the packet bears the last probe's timestamp, so it cannot be older. */
  | { kind: "match"; position: Offset; echoed: boolean }
  /** The client has acknowledged our FIN: nothing is left to do. */
  | { kind: "finished" }
  /** The client has no such connection any more. */
  | { kind: "gone" }
  /** Not an answer. Dropped and counted under `reason`. */
  | { kind: "ignore"; reason: string }
  /** An answer that does not fit the record. `final`: two probes were answered so, and the record is to be refused. */
  | { kind: "outside"; reason: string; final: boolean };

/**
 * Our timestamp clock at the connection's birth, reckoned back from the record with some slack; undefined if the clock has
 * gone half round since (24 days; 36 minutes of a microsecond clock).
 */
export function earliestClock(record: Pick<ConnectionRecord, "tcp" | "takenAtUs" | "bornAtUs">): number | undefined {
  const ageUs = Math.max(0, record.takenAtUs - record.bornAtUs) + CLOCK_SLACK_US;
  const ticks = Math.ceil(record.tcp.timestampUsec ? ageUs : ageUs / 1000);
  return ticks < 2 ** 31 ? add(record.tcp.timestampClock, -ticks) : undefined;
}

/** @param nonce nothing but an echo of the probe itself will do: there was no record before. */
export function expectationOf(record: ConnectionRecord, nonce: boolean): Expectation {
  const last = record.output.at(-1);
  return {
    clientIsn: record.tcp.clientIsn,
    serverIsn: record.tcp.serverIsn,
    floor: record.floor,
    tail: last ? last.offset + pieceLength(last) : record.floor,
    finOffset: last?.fin ? last.offset : undefined,
    consumed: record.consumed,
    window: widestWindow(record.tcp),
    timestamps: record.tcp.timestamps,
    earliestClock: nonce ? undefined : earliestClock(record),
    nonce,
  };
}

/** One connection's comparison: remembers the last answer that did not fit, or may be old. */
export class Comparison {
  private unsure: { seq: Sequence; ack: Sequence; probe: number } | undefined;

  constructor(private readonly expected: Expectation) {}

  compare(answer: Answer, probe: Probe): Verdict {
    const verdict = compareAnswer(this.expected, answer, probe);
    if (verdict.kind !== "outside" && verdict.kind !== "doubtful") return verdict;
    // A forged or late packet does not come once for each probe and say the same.
    const { seq, ack } = answer;
    const first = this.unsure;
    if (first?.seq !== seq || first.ack !== ack) {
      this.unsure = { seq, ack, probe: probe.count };
      return verdict;
    }
    if (probe.count === first.probe) return verdict;
    const judgement = verdict.kind === "doubtful" ? verdict.says : verdict;
    return judgement.kind === "outside" ? { ...judgement, final: true } : judgement;
  }
}

/** The comparison of one packet by itself; never final. */
export function compareAnswer(expected: Expectation, answer: Answer, probe: Probe): Verdict {
  const ahead = distance(toSequence(expected.clientIsn, expected.consumed), answer.seq);
  const says = judge(expected, answer, probe, ahead);
  return ahead < 0 && says.kind !== "ignore" ? { kind: "doubtful", says } : says;
}

/** @param ahead of what was taken in, bytes */
function judge(expected: Expectation, answer: Answer, probe: Probe, ahead: number): Judgement {
  if (answer.flags & SYN) return { kind: "ignore", reason: "SYN" };
  if (answer.flags & RST) {
    const exact = probe.count > 0 && ahead === 0;
    return exact ? { kind: "gone" } : { kind: "ignore", reason: "inexact RST" };
  }
  if (!(answer.flags & ACK)) return { kind: "ignore", reason: "no ACK" };

  if (ahead < 0 && (answer.payload > 0 || answer.flags & FIN)) return { kind: "ignore", reason: "retransmission" };
  if (ahead < -expected.window || ahead > WINDOW_MAX)
    return { kind: "ignore", reason: "sequence number beyond any window" };

  if (expected.timestamps) {
    if (!answer.hasTimestamps) return { kind: "ignore", reason: "no timestamps" }; // RFC 7323 section 3.2
    if (!plausibleEcho(expected, answer.tsecr, probe)) return { kind: "ignore", reason: "implausible timestamp echo" };
  }
  const echoed = expected.timestamps && probe.count > 0 && answer.tsecr === probe.tsval;
  if (expected.nonce && !echoed) return { kind: "ignore", reason: "the nonce is not echoed" };

  const position = toOffset(expected.serverIsn, answer.ack, expected.floor);
  const reason = outsideReason(expected, position);
  if (reason) return probe.count > 0 ? { kind: "outside", reason, final: false } : { kind: "ignore", reason };
  if (expected.finOffset !== undefined && position > expected.finOffset) return { kind: "finished" };
  return { kind: "match", position, echoed };
}

function outsideReason({ floor, tail }: Expectation, position: Offset): string | undefined {
  if (position < floor) return "acknowledgement below the floor";
  if (position > floor + FLOOR_WINDOW) return "acknowledgement too far past the floor";
  if (position > tail) return "acknowledgement beyond the output";
  return undefined;
}

/** An echo is a timestamp of ours: of the dead server since the connection's birth, or of our probes, which carry its clock on. */
function plausibleEcho({ earliestClock: earliest }: Expectation, tsecr: number, probe: Probe): boolean {
  if (earliest === undefined || distance(earliest, probe.tsval) < 0) return true; // the clock has gone half round
  return distance(earliest, tsecr) >= 0 && distance(tsecr, probe.tsval) >= -CLOCK_SLACK_TICKS;
}
