import { readSync } from "node:fs";
import type { BundlePort, ConnectionPort, Exposure, Response } from "../../agent/protocols/application.js";
import type { ObjectReference } from "../../proto/record.js";
import { toSequence } from "../../proto/sequence.js";

export const SERVER_ISN = 4_294_967_000;

/** The core's stand-in: keeps promises as bytes, checks the rules of the seam. */
export class FakePort implements ConnectionPort {
  out = Buffer.alloc(0);
  fin = false;
  processedTo = 0;
  responses: Response[] = [];
  objects: ObjectReference[] = [];
  /** It has everything, unless a test says otherwise. */
  acknowledgedTo: number | undefined;
  readonly resets: string[] = [];
  readonly id = "10-77-0-10_51234_10-77-0-100_80_tcp.1";
  readonly vip = { address: "10.77.0.100", port: 80 };
  readonly peer = { address: "10.77.0.10", port: 51234 };
  constructor(private readonly start = 0) {}

  tail(): number {
    return this.start + this.out.length + (this.fin ? 1 : 0);
  }
  acknowledged(): number {
    return this.acknowledgedTo ?? this.tail();
  }
  /** Whoever waits for a record; a test lets them go. */
  readonly recordings: Array<() => void> = [];
  recorded(): Promise<void> {
    return new Promise((resolve) => this.recordings.push(resolve));
  }
  /** Whether promised objects are still part of records. */
  isHolding = false;
  holds(): boolean {
    return this.isHolding;
  }
  ended(): boolean {
    return this.fin;
  }
  respond(response: Response): void {
    if (this.fin) throw new Error("a promise behind the FIN");
    this.responses.push(response);
    for (const piece of response.pieces) {
      if ("literal" in piece) {
        if (piece.literal.length === 0) throw new Error("an empty piece");
        this.out = Buffer.concat([this.out, piece.literal]);
        continue;
      }
      const { length, objectOffset } = piece.object;
      if (length === 0) throw new Error("an empty piece");
      const bytes = Buffer.alloc(length);
      readSync(piece.file.fd, bytes, 0, length, objectOffset);
      piece.file.close();
      this.out = Buffer.concat([this.out, bytes]);
      this.objects.push(piece.object);
    }
    this.fin = response.fin ?? false;
    this.processed(response.processed);
  }
  processed(offset: number): void {
    if (offset < this.processedTo) throw new Error(`processed fell from ${this.processedTo} to ${offset}`);
    this.processedTo = offset;
  }
  /** What may be taken; nothing unless a test says otherwise. */
  keeps = 0;
  takenTo = 0;
  took(offset: number): void {
    if (offset < this.takenTo) throw new Error(`taken fell from ${this.takenTo} to ${offset}`);
    this.takenTo = offset;
  }
  readonly exposures: Exposure[] = [];
  exposed(exposure: Exposure): void {
    this.exposures.push(exposure);
  }
  reset(reason: string): Promise<void> {
    this.resets.push(reason);
    return Promise.resolve();
  }
  bundle: BundlePort | undefined;
  sequence(offset: number): number {
    return toSequence(SERVER_ISN, offset);
  }
}
