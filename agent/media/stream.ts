import { type Fragment, lengthOf } from "./fragments.js";
import { MICROSECONDS, rescale } from "./time.js";
import type { Track } from "./track.js";

/**
 * What is settled once, when a range of a track begins to be sent; with it and the file everybody makes the same packets. Another range of
 * the same session keeps all but `timestamp` and `startUs`.
 */
export interface StreamStart {
  ssrc: number;
  /** 0 to 127. */
  payloadType: number;
  /** Of packet 0: 16 bits. */
  sequence: number;
  /** Of what is presented at the range's start: 32 bits. */
  timestamp: number;
  /** The range's start on the movie's time line, microseconds. */
  startUs: number;
  /** Bytes of a packet behind RTP's header; at least PAYLOAD_MIN. */
  payloadMax: number;
}

export const RTP_HEADER = 12;
const VERSION = 0x80;
const MARKER = 0x80;
/** The packets of a sample are spread until the next one is due, but no longer: else pictures that last come too late. */
const SPREAD_MAX_US = 40_000;

/**
 * One track while a range of it is sent. Packets are counted from 0 by numbers that never wrap; on the wire they have 16 bits.
 * Pure: nothing here depends on what was sent before.
 *
 *   decode times   │ sample 4       │ sample 5 │ ...           of the movie; pictures are sent in this order
 *   send times      ┆ ┆ ┆ ┆ ┆        ┆ ┆                      microseconds from the range's start, at least 0
 *   timestamps     those of presentation, the same for all packets of a sample
 */
export class Stream {
  constructor(
    readonly track: Track,
    readonly start: StreamStart,
  ) {}

  /** When the first packet of a sample goes out, microseconds from the range's start. Never falls from one sample to the next. */
  sampleUs(sample: number): number {
    return Math.max(0, this.dueUs(sample));
  }

  /** When a packet goes out: the `fragment`th of the `count` that the sample has. */
  sendUs(sample: number, fragment: number, count: number): number {
    const due = this.dueUs(sample);
    const spread = Math.min(SPREAD_MAX_US, this.dueUs(sample + 1) - due);
    return Math.max(0, due + Math.floor((fragment * spread) / count));
  }

  /** RTP timestamp of a sample (RFC 3550 section 5.1). */
  timestamp(sample: number): number {
    const { samples, timescale, clockRate } = this.track;
    return this.atTicks(rescale(samples.presentationTime(sample), timescale, clockRate));
  }

  /** RTP timestamp of an instant, microseconds from the range's start. */
  timestampAt(mediaUs: number): number {
    return this.atTicks(rescale(this.start.startUs + mediaUs, MICROSECONDS, this.track.clockRate));
  }

  /** On the wire. */
  sequence(number: number): number {
    return (this.start.sequence + (number % 65_536)) & 0xffff;
  }

  /**
   * A packet, bit for bit.
   * @param number of the packet in the range
   * @param data the sample; `fragment` is one of its
   */
  packet(number: number, sample: number, fragment: Fragment, data: Buffer): Buffer {
    const { ssrc, payloadType } = this.start;
    const { head, source = data, offset, length, marker } = fragment;
    const packet = Buffer.allocUnsafe(RTP_HEADER + lengthOf(fragment));
    packet[0] = VERSION;
    packet[1] = (marker ? MARKER : 0) | payloadType;
    packet.writeUInt16BE(this.sequence(number), 2);
    packet.writeUInt32BE(this.timestamp(sample), 4);
    packet.writeUInt32BE(ssrc, 8);
    head.copy(packet, RTP_HEADER);
    source.copy(packet, RTP_HEADER + head.length, offset, offset + length);
    return packet;
  }

  private dueUs(sample: number): number {
    const { samples, timescale } = this.track;
    return rescale(samples.decodeTime(sample), timescale, MICROSECONDS) - this.start.startUs;
  }

  private atTicks(ticks: number): number {
    const { timestamp, startUs } = this.start;
    const passed = ticks - rescale(startUs, MICROSECONDS, this.track.clockRate);
    return (timestamp + (passed % 2 ** 32)) >>> 0;
  }
}
