import type { Track, VideoTrack } from "./track.js";
import { DELIMITER, SEQUENCE_SET, typeOf, type Unit, unitsOf } from "./units.js";

/**
 * What one RTP packet carries: `head`, and behind it a stretch of the sample.
 *
 *   sample    [length NAL........................][length NAL....]
 *   H.264            └ whole, if it fits: head is empty      (RFC 6184 section 5.6, single NAL unit packets)
 *                     └─ FU-A ─┘└─ FU-A ─┘└ FU-A ┘           (section 5.8: head has the two bytes of its header)
 *   AAC       [....................................]         (RFC 3640 section 3.3.6, AAC-hbr: head has the AU header section)
 */
export interface Fragment {
  head: Buffer;
  /** Of what follows the head; undefined: the sample. */
  source: Buffer | undefined;
  /** In the source, bytes. */
  offset: number;
  length: number;
  /** RTP's marker bit: the last one of an access unit. */
  marker: boolean;
}

/** The least that a packet's payload may have to hold, bytes. */
export const PAYLOAD_MIN = 64;

const NOTHING = Buffer.alloc(0);
const FU_A = 28;
const FU_START = 0x80;
const FU_END = 0x40;
const FU_HEADER = 2;
/** One AU header: how many bits of headers follow (16), then 13 bits of the access unit's size and 3 of its index, which is 0. */
const AU_HEADER_SECTION = 4;

/**
 * The packets of one sample, in order: a pure function of the file and of `payloadMax`. None where the sample is empty.
 *
 * Parameter sets go in front of each sync sample that has none itself, behind its access unit delimiter. So who joins a multicast, or
 * has lost a packet, need not have them from the session description. Each access unit of AAC goes by itself.
 *
 * @param data the sample
 * @param payloadMax bytes of a packet behind RTP's header; at least PAYLOAD_MIN
 * Throws MediaError.
 */
export function fragmentsOf(track: Track, sample: number, data: Buffer, payloadMax: number): Fragment[] {
  if (track.kind === "aac") return fragmentsOfAudio(data.length, payloadMax);
  return fragmentsOfVideo(track, sample, unitsOf(data, track.lengthSize), payloadMax);
}

/** Bytes of the packet's payload. */
export function lengthOf({ head, length }: Fragment): number {
  return head.length + length;
}

function fragmentsOfVideo(track: VideoTrack, sample: number, units: Unit[], payloadMax: number): Fragment[] {
  const fragments: Fragment[] = [];
  const has = units.some(({ header }) => typeOf(header) === SEQUENCE_SET);
  const setsBefore = units.length > 0 && track.samples.isSync(sample) && !has ? behindDelimiter(units) : -1;
  for (const [at, unit] of units.entries()) {
    if (at === setsBefore) addSets(fragments, track, payloadMax);
    addUnit(fragments, undefined, unit, payloadMax);
  }
  if (setsBefore === units.length) addSets(fragments, track, payloadMax);
  return markLast(fragments);
}

function behindDelimiter(units: Unit[]): number {
  return typeOf(units[0]?.header ?? 0) === DELIMITER ? 1 : 0;
}

function addSets(fragments: Fragment[], { sequenceSets, pictureSets }: VideoTrack, payloadMax: number): void {
  for (const set of [...sequenceSets, ...pictureSets]) {
    addUnit(fragments, set, { offset: 0, length: set.length, header: set[0] as number }, payloadMax);
  }
}

function addUnit(fragments: Fragment[], source: Buffer | undefined, unit: Unit, payloadMax: number): void {
  const { header } = unit;
  if (unit.length <= payloadMax) {
    fragments.push({ head: NOTHING, source, offset: unit.offset, length: unit.length, marker: false });
    return;
  }
  // Its own header is not sent: what is in it is in theirs.
  const end = unit.offset + unit.length;
  for (let offset = unit.offset + 1; offset < end; ) {
    const length = Math.min(payloadMax - FU_HEADER, end - offset);
    const first = offset === unit.offset + 1 ? FU_START : 0;
    const last = offset + length === end ? FU_END : 0;
    const head = Buffer.from([(header & 0xe0) | FU_A, first | last | typeOf(header)]);
    fragments.push({ head, source, offset, length, marker: false });
    offset += length;
  }
}

function fragmentsOfAudio(size: number, payloadMax: number): Fragment[] {
  const fragments: Fragment[] = [];
  // The size is that of the whole access unit in each of its fragments (RFC 3640 section 3.2.1.1).
  const head = Buffer.from([0, 16, size >> 5, (size << 3) & 0xff]);
  for (let offset = 0; offset < size; ) {
    const length = Math.min(payloadMax - AU_HEADER_SECTION, size - offset);
    fragments.push({ head, source: undefined, offset, length, marker: false });
    offset += length;
  }
  return markLast(fragments);
}

function markLast(fragments: Fragment[]): Fragment[] {
  const last = fragments.at(-1);
  if (last) last.marker = true;
  return fragments;
}
