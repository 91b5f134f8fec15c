import { readSync } from "node:fs";
import { BatonError } from "../../proto/errors.js";
import { type ObjectReference, type OutputPiece, pieceLength } from "../../proto/record.js";
import type { Offset } from "../../proto/sequence.js";
import type { Piece } from "../native/api.js";
import type { OpenObject } from "../protocols/application.js";

/** A promise, and the open file behind it where it names an object. */
export interface Promised {
  piece: OutputPiece;
  length: number; // sequence numbers it takes; a FIN takes one
  source?: OpenObject;
}

/**
 * What the server has promised to send, in order and without gaps:
 *
 *     start ........ acknowledged ........ sent ........ committed ........ tail
 *     [ literal ][ object reference            ][ literal ][ object ... ][ FIN ]
 *
 * Pieces are kept from the one that holds the byte before the acknowledged position on: a probe needs that byte.
 */
export class Output {
  private readonly promised: Promised[] = [];
  private end: Offset;
  /** There has been an object that is fetched while it is sent. */
  private hasFetched = false;

  constructor(start: Offset) {
    this.end = start;
  }

  /** Stream offset behind everything promised. */
  get tail(): Offset {
    return this.end;
  }

  get pieces(): OutputPiece[] {
    return this.promised.map((entry) => entry.piece);
  }

  get finOffset(): Offset | undefined {
    const last = this.promised.at(-1);
    return last?.piece.fin ? last.piece.offset : undefined;
  }

  appendLiteral(literal: Buffer): void {
    this.push({ offset: this.end, literal }, literal.length);
  }

  appendObject(object: ObjectReference, source: OpenObject | undefined): void {
    this.push({ offset: this.end, object }, object.length, source);
  }

  appendFin(): void {
    this.push({ offset: this.end, fin: true }, 1);
  }

  /** Takes over a record's piece as it stands. */
  adopt(piece: OutputPiece, source: OpenObject | undefined): void {
    if (piece.offset !== this.end) {
      throw new BatonError("RECORD_INVALID", `output has a gap: a piece at ${piece.offset}, expected at ${this.end}`);
    }
    this.push(piece, pieceLength(piece), source);
  }

  /** Lets go of the pieces that end below `acknowledged`; of the one with the byte before it that byte stays, where it is literal. */
  trim(acknowledged: Offset): void {
    while (this.promised.length > 1) {
      const first = this.promised[0] as Promised;
      if (first.piece.offset + first.length >= acknowledged) break;
      this.promised.shift();
      first.source?.close();
    }
    const first = this.promised[0];
    if (!first?.piece.literal || first.length === 1) return;
    const last = first.piece.offset + first.length - 1;
    if (last >= acknowledged) return;
    // A copy, so that the rest is free as well.
    first.piece = { offset: last, literal: Buffer.from(first.piece.literal.subarray(-1)) };
    first.length = 1;
  }

  /**
   * The last offset up to `acknowledged` whose byte before it can be named, and that byte; undefined where none can. It lies below
   * `acknowledged` where that byte is the FIN's, or of an object that is not open, or is fetched and not kept.
   */
  floorAt(acknowledged: Offset): { floor: Offset; byte: number } | undefined {
    for (let i = this.promised.length - 1; i >= 0; i--) {
      const entry = this.promised[i] as Promised;
      if (entry.piece.offset >= acknowledged) continue;
      const floor = Math.min(acknowledged, entry.piece.offset + entry.length);
      const found = lastByte(entry, floor - entry.piece.offset);
      if (found) return { floor: entry.piece.offset + found.length, byte: found.byte };
    }
    return undefined;
  }

  /** The promised bytes of [from, to), which lie below our FIN. Throws INTERNAL where something is not there to be read. */
  bytes(from: Offset, to: Offset): Buffer {
    const parts: Buffer[] = [];
    for (const { piece, length, source } of this.promised) {
      const begin = Math.max(from, piece.offset);
      const end = Math.min(to, piece.offset + length);
      if (begin >= end) continue;
      if (piece.literal) parts.push(piece.literal.subarray(begin - piece.offset, end - piece.offset));
      else if (piece.object && source) {
        const part = Buffer.alloc(end - begin);
        const at = piece.object.objectOffset + begin - piece.offset;
        if (readSync(source.fd, part, 0, part.length, at) !== part.length) {
          throw new BatonError("CONTENT_CHANGED", `${piece.object.objectId} is shorter than promised`);
        }
        parts.push(part);
      } else throw new BatonError("INTERNAL", `the promise at ${piece.offset} has nothing behind it`);
    }
    return Buffer.concat(parts);
  }

  /** What is to be sent from `position` on, for the pump. */
  from(position: Offset): Piece[] {
    const pieces: Piece[] = [];
    for (const { piece, length, source } of this.promised) {
      const skip = Math.max(0, position - piece.offset);
      if (skip >= length) continue;
      if (piece.fin) pieces.push({ fin: true });
      else if (piece.literal) pieces.push({ literal: piece.literal.subarray(skip) });
      else if (piece.object && source) {
        const spool = source.stream?.spool;
        const part = { fd: source.fd, offset: piece.object.objectOffset + skip, length: length - skip };
        pieces.push(spool ? { ...part, spool } : part);
      } else throw new BatonError("INTERNAL", `the promise at ${piece.offset} has nothing behind it`);
    }
    return pieces;
  }

  // ---- objects that are fetched while they are sent ----

  /** Told, with why, when one of them will never come. */
  onLost: (reason: string) => void = () => {};

  /** Whether any of them is under way, or has something to be released. Asked of every connection again and again. */
  get fetches(): boolean {
    return this.hasFetched && this.promised.some(({ source }) => source?.stream && !source.stream.isDone);
  }

  /** Nothing below `position` is going to be sent. */
  begin(position: Offset): void {
    for (const { stream, first } of this.streams(position)) stream.begin(first);
  }

  /** Nothing below `from` is going to be sent; resolves when what lies below `to` can be read. Rejects where it cannot be fetched. */
  async fetch(from: Offset, to: Offset): Promise<void> {
    for (const { stream, first, at } of this.streams(from)) {
      const end = Math.min(to - at.offset + at.objectOffset, at.end);
      if (end > first) await stream.fetch(first, end);
    }
  }

  /** The client has everything below `acknowledged`; the byte before it stays. */
  release(acknowledged: Offset): void {
    for (const { stream, first } of this.streams(acknowledged - 1)) stream.release(first);
  }

  /** Those of which bytes from `position` on are promised. `first`: the first of them in the object. */
  private *streams(position: Offset) {
    for (const { piece, length, source } of this.promised) {
      if (!piece.object || !source?.stream || piece.offset + length <= position) continue;
      const { objectOffset } = piece.object;
      const first = objectOffset + Math.max(0, position - piece.offset);
      yield { stream: source.stream, first, at: { offset: piece.offset, objectOffset, end: objectOffset + length } };
    }
  }

  /** The open files behind promises, by the promises' offsets. What is fetched has none. */
  get files(): Array<{ offset: Offset; fd: number }> {
    return this.promised.flatMap(({ piece, source }) =>
      source && !source.stream ? [{ offset: piece.offset, fd: source.fd }] : [],
    );
  }

  /** Whether the promise that begins at `offset` is still kept. */
  holds(offset: Offset): boolean {
    return this.promised.some(({ piece }) => piece.offset === offset);
  }

  /** The digest of the object promised at `offset` has become known. @returns false where it is promised no longer. */
  protect(offset: Offset, object: ObjectReference): boolean {
    const entry = this.promised.find(({ piece }) => piece.offset === offset);
    if (!entry?.piece.object) return false;
    entry.piece = { offset, object };
    return true;
  }

  /** Closes the files. The native pump must be done with them. */
  close(): void {
    for (const entry of this.promised.splice(0)) entry.source?.close();
  }

  private push(piece: OutputPiece, length: number, source?: OpenObject): void {
    if (this.promised.at(-1)?.piece.fin) throw new BatonError("INTERNAL", "a promise behind the FIN");
    this.promised.push(source ? { piece, length, source } : { piece, length });
    this.end += length;
    if (!source?.stream) return;
    this.hasFetched = true;
    void source.stream.lost.then((reason) => this.onLost(reason));
  }
}

/** The last byte that can be named of the first `length` of a promise, and how many those are then. */
function lastByte({ piece, source }: Promised, length: number): { length: number; byte: number } | undefined {
  const byte = piece.literal?.[length - 1];
  if (byte !== undefined) return { length, byte };
  if (!piece.object || !source) return undefined;
  const { objectOffset } = piece.object;
  if (source.stream) {
    const known = source.stream.known(objectOffset + length);
    return known && known.position >= objectOffset
      ? { length: known.position + 1 - objectOffset, byte: known.byte }
      : undefined;
  }
  const read = Buffer.alloc(1);
  return readSync(source.fd, read, 0, 1, objectOffset + length - 1) === 1
    ? { length, byte: read[0] as number }
    : undefined;
}
