/** What a receiver says of one source (RFC 3550 section 6.4.2). */
export interface Reception {
  /** The source that it is about. */
  ssrc: number;
  /** Lost since its last report, of 256. */
  fractionLost: number;
  /** Lost in all; less than 0 where more came than were sent. */
  lost: number;
  /** Highest sequence number received, and 65,536 for each time that they began anew. */
  highestSequence: number;
  /** Ticks of the source's timestamps. */
  jitter: number;
  /** Middle 32 bits of the NTP time of the last sender report that came; 0: none has. */
  lastReport: number;
  /** Since then, in 65,536ths of a second. */
  delay: number;
}

export type Feedback =
  /** `ssrc`: who says so. */
  | { kind: "report"; ssrc: number; receptions: Reception[] }
  | { kind: "name"; ssrc: number; cname: string }
  | { kind: "goodbye"; ssrcs: number[] };

const SENDER_REPORT = 200;
const RECEIVER_REPORT = 201;
const DESCRIPTION = 202;
const GOODBYE = 203;
const CNAME = 1;
const SENDER_INFO = 20;
const RECEPTION = 24;
/** Of one compound packet; a datagram of 64 KiB could have 16,384. */
const PACKETS_MAX = 64;

/**
 * What a compound RTCP packet from a receiver says (RFC 3550 section 6). Tolerant: what it does not know it leaves out, and with the first
 * byte that does not fit it ends. Whoever can send to the port can send this: nothing but statistics and signs of life should
 * depend on it.
 */
export function parseFeedback(compound: Buffer): Feedback[] {
  const list: Feedback[] = [];
  let rest = compound;
  for (let count = 0; count < PACKETS_MAX && rest.length >= 4; count++) {
    const [first, type] = rest as unknown as [number, number];
    const length = 4 + 4 * rest.readUInt16BE(2);
    if (first >> 6 !== 2 || length > rest.length) break;
    // What has been filled up, to be ciphered, says by how much in its last byte (section 6.4.1).
    const padding = first & 0x20 ? (rest[length - 1] as number) : 0;
    const body = rest.subarray(4, Math.max(4, length - padding));
    list.push(...read(type, first & 0x1f, body));
    rest = rest.subarray(length);
  }
  return list;
}

function read(type: number, count: number, body: Buffer): Feedback[] {
  if (type === GOODBYE) return goodbyes(count, body);
  if (type === DESCRIPTION) return names(count, body);
  if ((type !== SENDER_REPORT && type !== RECEIVER_REPORT) || body.length < 4) return [];
  const blocks = body.subarray(type === SENDER_REPORT ? 4 + SENDER_INFO : 4);
  const receptions: Reception[] = [];
  for (let i = 0; i < count && (i + 1) * RECEPTION <= blocks.length; i++) {
    receptions.push(receptionOf(blocks.subarray(i * RECEPTION)));
  }
  return [{ kind: "report", ssrc: body.readUInt32BE(0), receptions }];
}

function receptionOf(block: Buffer): Reception {
  return {
    ssrc: block.readUInt32BE(0),
    fractionLost: block.readUInt8(4),
    lost: block.readIntBE(5, 3),
    highestSequence: block.readUInt32BE(8),
    jitter: block.readUInt32BE(12),
    lastReport: block.readUInt32BE(16),
    delay: block.readUInt32BE(20),
  };
}

function goodbyes(count: number, body: Buffer): Feedback[] {
  const known = Math.min(count, Math.floor(body.length / 4));
  return known === 0
    ? []
    : [{ kind: "goodbye", ssrcs: Array.from({ length: known }, (_, i) => body.readUInt32BE(4 * i)) }];
}

/** Section 6.5. */
function names(count: number, body: Buffer): Feedback[] {
  const list: Feedback[] = [];
  let at = 0;
  for (let chunk = 0; chunk < count && at + 4 <= body.length; chunk++) {
    const ssrc = body.readUInt32BE(at);
    at += 4;
    while (at + 1 < body.length && body[at] !== 0) {
      const text = body.subarray(at + 2, at + 2 + (body[at + 1] as number));
      if (body[at] === CNAME) list.push({ kind: "name", ssrc, cname: text.toString() });
      at += 2 + (body[at + 1] as number);
    }
    at += 4 - (at % 4);
  }
  return list;
}
