import { RefusedError } from "../../../proto/errors.js";
import type { RtspPiece, RtspRange } from "../../../proto/sections.js";
import type { Item, LanePosition } from "../../media/index.js";
import type { Native } from "../../native/api.js";
import type { ConnectionPort, OpenObject, ResponsePiece } from "../application.js";
import { frameOf } from "./interleaved.js";
import { Pace } from "./pace.js";
import type { Mark, Playback } from "./playback.js";
import type { Player, PlayerEvents } from "./player.js";
import { RangeClock } from "./range_clock.js";

/** So much is promised at a time, and so far ahead of when it is due. One commit each, and no more than that is repeated by nobody. */
const STEP_MS = 250;
const AHEAD_US = 500_000;
const PIECE_MAX = 2 ** 20;
/** Pieces that the client has not acknowledged: whoever does not take them gets no more. */
const PIECES_MAX = 6;

export type Memory = Pick<Native, "memoryFile" | "closeFd">;

/** Between two items: how many framed bytes have gone before, and where the lanes are. */
interface Place {
  offset: number;
  positions: LanePosition[];
}

/** A piece as it is kept until the client has it. @property before where it begins, or some earlier place */
interface Held extends RtspPiece {
  before: Place;
}

/**
 * Sends a range in the RTSP connection itself (RFC 2326 section 10.12), in pieces that are promised some time ahead:
 *
 *     framed bytes   ....[ range of before ][ piece ][ piece ][ piece ]....        object offsets
 *     our stream     ....[ ... ][ answer   ][ piece ][ piece ][ answer ][ piece ]  offsets
 *
 * Whoever has the range and one place at or below the first piece that the client may lack makes all of them again.
 */
export class FramedPlayer implements Player {
  unsure = false;
  private readonly held: Held[] = [];
  private at: Place;
  private readonly pace = new Pace(() => this.step());
  private readonly clock: RangeClock;
  /** What was promised by another server, from `from` on. */
  private remade: { from: number; bytes: Buffer } | undefined;

  constructor(
    readonly playback: Playback,
    private readonly port: Pick<ConnectionPort, "tail" | "acknowledged" | "ended">,
    private readonly memory: Memory,
    private readonly events: PlayerEvents & { promise(pieces: ResponsePiece[]): void },
  ) {
    const { range } = playback;
    this.at = { offset: range.offset, positions: playback.positions };
    this.clock = new RangeClock(range.wallUs);
  }

  /** Framed bytes up to the end of what is promised. */
  get framed(): number {
    return this.at.offset;
  }

  // ---- sending ----

  get sent(): Mark {
    return this.playback.mark;
  }

  async begin(): Promise<(offset: number) => ResponsePiece[]> {
    const items = await this.playback.collect(AHEAD_US + this.elapsedUs, PIECE_MAX);
    return (offset) => (items.length === 0 ? [] : [this.promise(items, offset)]);
  }

  go(): void {
    const { nextUs } = this.playback;
    if (this.unsure && nextUs !== undefined) this.clock.goOn(Math.max(0, nextUs - AHEAD_US));
    this.pace.start(this.playback.ended ? 0 : STEP_MS);
  }

  stop(): Promise<void> {
    return this.pace.stop();
  }

  get elapsedUs(): number {
    return this.clock.elapsedUs;
  }

  private async step(): Promise<number | undefined> {
    const { playback, port, events } = this;
    try {
      const acknowledged = port.acknowledged();
      const lacking = this.held.filter(({ offset, length }) => offset + length > acknowledged);
      if (lacking.length >= PIECES_MAX) return STEP_MS;
      const items = await playback.collect(this.elapsedUs + AHEAD_US, PIECE_MAX);
      if (port.ended()) return undefined;
      if (items.length > 0) events.promise([this.promise(items, port.tail())]);
      if (!playback.ended) return sizeOf(items) < PIECE_MAX ? STEP_MS : 0;
      events.ended();
    } catch (error) {
      events.ended(error as Error);
    }
    return undefined;
  }

  private promise(items: readonly Item[], offset: number): ResponsePiece {
    const bytes = Buffer.concat(items.map((item) => this.frame(item)));
    const objectOffset = this.at.offset;
    const { length } = bytes;
    this.held.push({ offset, objectOffset, length, before: this.at });
    this.at = { offset: objectOffset + length, positions: this.playback.positions };
    const { objectId, validator } = this.playback.range;
    return { object: { objectId, validator, objectOffset, length }, file: this.fileOf(bytes, objectOffset) };
  }

  private fileOf(bytes: Buffer, objectOffset: number): OpenObject {
    return memoryObject(this.memory, this.memory.memoryFile(bytes, objectOffset));
  }

  /** In its frame. */
  private frame({ lane, kind, bytes }: Pick<Item, "lane" | "kind" | "bytes">): Buffer {
    const at = this.playback.range.lanes[lane];
    if (!at) throw new RefusedError("object changed", "a packet is of no lane");
    return frameOf(kind === "rtp" ? at.rtpChannel : at.rtcpChannel, bytes);
  }

  /** That the sources are gone, framed. */
  goodbyes(): Buffer {
    const packets = this.playback.goodbyes(this.elapsedUs);
    return Buffer.concat(packets.map((packet) => this.frame({ ...packet, kind: "rtcp" })));
  }

  // ---- takeover ----

  checkpoint(told: number): RtspRange {
    const { held, at } = this;
    this.trim(told);
    const { offset, positions } = held[0]?.before ?? at;
    const { range } = this.playback;
    const lanes = range.lanes.map((lane, index) => ({ ...lane, ...positions[index] }));
    return { ...range, offset, lanes, pieces: held.map(({ before, ...piece }) => piece) };
  }

  /** The client has everything of our stream below `told`. */
  trim(told: number): void {
    const { held } = this;
    while (held[0] && held[0].offset + held[0].length < told) held.shift();
  }

  /** Whether some piece may still be needed. */
  get isHeld(): boolean {
    return this.held.length > 0;
  }

  /** Makes again what another server has promised, and is where that one was then. Throws RefusedError where it cannot be. */
  async remake(): Promise<void> {
    const { pieces } = this.playback.range;
    const before = this.at;
    const last = pieces.at(-1);
    if (!last) return;
    const end = last.objectOffset + last.length;
    const frames: Buffer[] = [];
    while (this.at.offset < end) {
      const [item] = await this.playback.collect(Number.POSITIVE_INFINITY, 1, 1);
      if (!item) throw new RefusedError("object changed", "the range is over before what was promised of it");
      const frame = this.frame(item);
      frames.push(frame);
      this.at = { offset: this.at.offset + frame.length, positions: [] };
    }
    if (this.at.offset !== end) throw new RefusedError("object changed", "its packets are others");
    this.at = { offset: end, positions: this.playback.positions };
    this.held.push(...pieces.map((piece) => ({ ...piece, before })));
    this.remade = { from: before.offset, bytes: Buffer.concat(frames) };
  }

  /** The bytes are needed no more. */
  forget(): void {
    this.remade = undefined;
  }

  /** What was made again of a piece; undefined: it is none of this range. */
  open({ objectOffset, length }: { objectOffset: number; length: number }): OpenObject | undefined {
    if (!this.remade) return undefined;
    const { from, bytes } = this.remade;
    const begin = objectOffset - from;
    if (begin < 0 || begin + length > bytes.length) return undefined;
    return this.fileOf(bytes.subarray(begin, begin + length), objectOffset);
  }

  /** The piece that the client is receiving at `position` of our stream. */
  pieceAt(position: number): RtspPiece | undefined {
    return this.held.findLast(({ offset }) => offset <= position) ?? this.held[0];
  }
}

/** A descriptor of ours as an object. */
export function memoryObject(memory: Pick<Native, "closeFd">, fd: number): OpenObject {
  let closed = false;
  return {
    fd,
    close: () => {
      if (closed) return;
      closed = true;
      memory.closeFd(fd);
    },
  };
}

function sizeOf(items: readonly Item[]): number {
  return items.reduce((sum, { bytes }) => sum + bytes.length, 0);
}
