import { type ConnectionRecord, outputEnd } from "../../proto/record.js";
import type { Offset } from "../../proto/sequence.js";
import type { Output } from "./output.js";

/** Nothing is sent further than this past the committed floor, so that 32-bit acks stay unambiguous. */
const FLOOR_REACH = 2 ** 29;

/** The client has everything below `floor`, as a record says, and this is the byte before it. */
export interface Floor {
  floor: Offset;
  floorByte: Buffer;
}

/**
 * How far a connection's output has come, and how far it may go, in our stream's offsets:
 *
 *     floor ..... told ..... acknowledged ..... limit ..... covered ..... the output's tail
 *
 * Each only grows, but where another socket takes over. Output commit: where there are records what leaves is never past `limit`, and
 * that never past what a committed record covers. Where there are none all of it is covered at once, and may leave.
 */
export class Reach {
  #floor: Floor;
  #acknowledged: Offset;
  #told: Offset;
  #covered: Offset;

  /** @param covered behind what is promised in the record, if there is one */
  constructor(floor: Floor, covered: Offset) {
    this.#floor = floor;
    this.#acknowledged = floor.floor;
    this.#told = floor.floor;
    this.#covered = covered;
  }

  get floor(): Offset {
    return this.#floor.floor;
  }
  get acknowledged(): Offset {
    return this.#acknowledged;
  }
  /** Up to which the application layer has been told that the client has it. */
  get told(): Offset {
    return this.#told;
  }
  /** Behind what may leave because a record covers it, or because none is needed. */
  get covered(): Offset {
    return this.#covered;
  }
  /** Behind what may leave for now. */
  get limit(): Offset {
    return Math.min(this.#covered, this.floor + FLOOR_REACH);
  }
  /** Whether it wants a record with a later floor before it may go on as far as it is covered. */
  isSpent(sentTo: Offset): boolean {
    return sentTo >= this.floor + FLOOR_REACH;
  }

  /** It goes on with another socket: at `position`, the client's exact ack, and all that the application needs to know of. */
  resume(position: Offset, covered: Offset): void {
    this.#acknowledged = position;
    this.#told = position;
    this.#covered = covered;
  }

  /** The client's latest ack. @returns whether it says anything new */
  see(acknowledged: Offset): boolean {
    if (acknowledged <= this.#acknowledged) return false;
    this.#acknowledged = acknowledged;
    return true;
  }

  /** @returns whether the application is to be told of it, once */
  tell(position: Offset): boolean {
    if (position <= this.#told) return false;
    this.#told = position;
    return true;
  }

  /**
   * The floor for a record: the client's ack where the byte before it can be named. Else a survivor would have no probe, and an older
   * floor is as true.
   */
  nameFloor(output: Output): Floor {
    const named = output.floorAt(this.#acknowledged);
    if (!named || named.floor < this.floor) return this.#floor;
    return { floor: named.floor, floorByte: Buffer.of(named.byte) };
  }

  /** A record is stored. @returns whether more may leave than before */
  commit(record: Pick<ConnectionRecord, "floor" | "floorByte" | "output">): boolean {
    // Later commits go further; only with the store gone can an older one be acknowledged after a newer one went ahead.
    if (record.floor >= this.floor) this.#floor = { floor: record.floor, floorByte: record.floorByte };
    return this.#cover(outputEnd(record));
  }

  /** Everything may leave without a record. */
  commitUnrecorded(tail: Offset): void {
    this.#floor = { ...this.#floor, floor: this.#acknowledged };
    this.#cover(tail);
  }

  #cover(tail: Offset): boolean {
    if (tail <= this.#covered) return false;
    this.#covered = tail;
    return true;
  }
}
