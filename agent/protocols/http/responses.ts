import type { ObjectReference } from "../../../proto/record.js";
import type { HttpResponse } from "../../../proto/sections.js";

/** Responses promised ahead of the client; requests behind them wait in the spool. */
const AHEAD_MAX = 16;
/** Bytes of their request heads, and of what names their objects: part of every record. */
const HEADS_MAX = 65_536;
/** Bytes of theirs that are literally in the record. The last one may go past that, by all that a response may have literally. */
const LITERALS_MAX = 65_536;

/** The responses that the client is receiving or will receive, in order; the last one stays when all is done. */
export class Responses {
  private list: HttpResponse[] = [];
  private acknowledged = 0;

  /** @param isHeld whether the promise of an object at this offset is still part of records; then what it answers is, too */
  constructor(private readonly isHeld: (offset: number) => boolean) {}

  get first(): HttpResponse | undefined {
    return this.list[0];
  }

  get behindFirst(): HttpResponse[] {
    return this.list.slice(1);
  }

  /** Whether one more may be promised. */
  get hasRoom(): boolean {
    let [ahead, heads, literals] = [0, 0, 0];
    for (const response of this.list) {
      if (endOf(response) <= this.acknowledged) continue;
      ahead++;
      heads += response.requestHead.length + 2 * (response.objectId.length + response.validator.length); // here and in the output
      literals += response.responseHead.length + (response.objectId === "" ? response.length : 0);
    }
    return ahead < AHEAD_MAX && heads < HEADS_MAX && literals < LITERALS_MAX;
  }

  add(response: HttpResponse): void {
    this.list.push(response);
    this.drop();
  }

  restore(list: HttpResponse[]): void {
    this.list = list;
  }

  /** The client has everything below `position`. */
  advance(position: number): void {
    this.acknowledged = position;
    this.drop();
  }

  /** The one that has the byte at `position`, or the nearest before it. */
  at(position: number): HttpResponse | undefined {
    return this.list.find((response) => position < endOf(response)) ?? this.list.at(-1);
  }

  /** The one whose body begins at this offset. */
  startingAt(offset: number): HttpResponse | undefined {
    return this.list.find((response) => response.firstByteOffset === offset);
  }

  /** The one that promises this object. */
  of({ objectId, validator, objectOffset, length }: ObjectReference): HttpResponse | undefined {
    return this.list.find(
      (one) =>
        one.objectId === objectId &&
        one.validator === validator &&
        one.objectOffset === objectOffset &&
        one.length === length,
    );
  }

  /** Lets go of what no record needs any more. */
  drop(): void {
    while (this.list.length > 1) {
      const first = this.list[0] as HttpResponse;
      if (endOf(first) > this.acknowledged || (first.objectId !== "" && this.isHeld(first.firstByteOffset))) return;
      this.list.shift();
    }
  }
}

function endOf(response: HttpResponse): number {
  return response.firstByteOffset + response.length;
}
