import { BatonError } from "../../proto/errors.js";
import type { ConnectionRecord } from "../../proto/record.js";
import type { Offset } from "../../proto/sequence.js";
import type { ApplicationLayer } from "../protocols/application.js";
import type { ConnectionHost } from "./host.js";
import type { Identity } from "./identity.js";
import { Input } from "./input.js";
import { Spilling } from "./spilling.js";

/**
 * Input that no layer has used is committed to the spool after this long, so that a clamp never lasts. A client that has one segment
 * under way reckons with a delayed ack, and waits for it (RFC 8985 section 7.2); of more it soon sends the last one again. What is being
 * stored elsewhere is committed without the spool, unless that does not end.
 */
const SPOOL_DELAY_MS = { segment: 40, more: 5, stored: 500 };
/** Less than any segment that is full. */
const SEGMENT_BYTES = 1_200;
/** So much of it, in bytes, is an upload: its client waits for every ack. */
const SPOOL_AT_ONCE = 4_096;
/** Smaller pieces are not worth a message of their own, unless no more than that is read. */
const PIECE_MIN = 16_384;

/** What the input of a connection needs of it. */
export interface IntakePort {
  readonly application: ApplicationLayer;
  readonly isOver: boolean;
  pauseInput(): void;
  resumeInput(): void;
  commit(): void;
  /** The client's stream cannot be gone on with: what the record says of it is not there, or a layer fails at it. */
  lost(error: Error): void;
}

/**
 * How a client's stream travels from the socket to the layers, and what of it is where meanwhile:
 *
 *   socket ──► layers            read no faster than they take it
 *     └──────► held ──► record   what they have not used: committed, then acknowledged
 *                └────► spilled  what they have handed on and may need again, where it is much; its record follows it
 */
export class Intake {
  readonly input: Input;
  private readonly spilling: Spilling;
  private timer: NodeJS.Timeout | undefined;
  private dueMs = 0;
  /** Up to where records have the client's stream, or are about to; never falls. */
  private recordedTo: Offset;
  /** What the layers were given; undefined: all of it. */
  private delivered: Offset | undefined;
  private moved = () => {};

  constructor(
    private readonly port: IntakePort,
    private readonly host: Pick<ConnectionHost, "spills" | "limits" | "unprotected" | "writer" | "commits">,
    private readonly identity: Pick<Identity, "id" | "recorded" | "service">,
    start: Pick<ConnectionRecord, "processed" | "consumed" | "clientFinished" | "spilled">,
  ) {
    const { id, recorded, service } = identity;
    const { processed, consumed, clientFinished, spilled } = start;
    this.input = new Input(processed, consumed, clientFinished, spilled);
    const pieceMin = Math.min(PIECE_MIN, host.limits.inputBytes);
    this.spilling = new Spilling(host.spills, id, host.writer, spilled > processed ? spilled : 0, pieceMin);
    this.recordedTo = consumed;
    this.keeps = recorded ? host.limits.bodyBytes(service) : 0;
  }

  /** Bytes that may be taken without being used up. */
  readonly keeps: number;

  /** What an earlier owner has spilled comes from the store, and until it has nothing from the client. */
  get isReplaying(): boolean {
    return this.delivered !== undefined;
  }

  /** Records wait for a piece that is on its way to the store; where they need not wait for the store there is nothing to wait for. */
  private get awaitsPiece(): boolean {
    return this.spilling.isRunning && !this.host.unprotected;
  }

  /** Nothing of it waits for anybody but the client. */
  get isSettled(): boolean {
    return !this.isReplaying && !this.spilling.isRunning;
  }

  /** A commit is to be made soon. */
  get isBehind(): boolean {
    return this.timer !== undefined;
  }

  receive(chunk: Buffer): void {
    this.input.receive(chunk);
    this.deliver(chunk);
    this.regulate();
  }

  /** Input that the record has is given to the layers (again). */
  restore(spool: Buffer): void {
    const { input } = this;
    input.refill(spool);
    if (input.spilled > input.processed) this.replay(spool).catch((error) => this.port.lost(error));
    else this.redeliver(spool);
  }

  processed(offset: Offset): void {
    this.input.use(offset);
    this.regulate();
    this.moved();
  }

  took(offset: Offset): void {
    this.input.take(offset);
    this.spill();
    this.regulate();
    this.moved();
  }

  /**
   * What may leave without a record may have changed, or the socket, which reads unless it is told. A layer whose client waits for an ack
   * takes nothing more by itself.
   */
  lookAgain(): void {
    if (this.host.unprotected && !this.isReplaying) this.letGo();
    this.regulate();
  }

  /**
   * The input's part of a record. While a piece is on its way to the store, it and what is behind it need not be in a record as well.
   * @param whole all of it is needed
   */
  part(whole: boolean): Pick<ConnectionRecord, "consumed" | "processed" | "spilled" | "clientFinished" | "spool"> {
    const { processed, spilled, consumed, ended } = this.input;
    const spool = this.input.spool();
    if (!whole && this.awaitsPiece && this.recordedTo < consumed) {
      const spoolAt = Math.max(processed, spilled);
      this.recordedTo = Math.max(this.recordedTo, spoolAt);
      const part = spool.subarray(0, this.recordedTo - spoolAt);
      return { processed, spilled, consumed: this.recordedTo, clientFinished: false, spool: part };
    }
    this.recordedTo = consumed;
    return { processed, spilled, consumed, clientFinished: ended, spool };
  }

  /** `consumed` of the latest record. */
  get recorded(): Offset {
    return this.recordedTo;
  }

  /** This record is in the store. */
  committed(record: ConnectionRecord): void {
    this.spilling.release(record.processed);
  }

  /** At the latest after `delayMs`. */
  commitSoon(delayMs: number): void {
    const dueMs = performance.now() + delayMs;
    if (this.timer && this.dueMs <= dueMs) return;
    clearTimeout(this.timer);
    this.dueMs = dueMs;
    this.timer = setTimeout(() => this.port.commit(), delayMs);
  }

  /** A commit is being made, or none will be. */
  clearTimer(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  /** @param forGood the record is gone too; else it is somebody else's, or may be */
  end(forGood: boolean): void {
    if (forGood) this.spilling.remove();
    else this.spilling.stop();
    this.moved();
  }

  private deliver(chunk: Buffer): void {
    this.port.application.input(chunk);
    // What is being spilled is committed behind that.
    if (this.port.isOver || this.input.held === 0 || this.awaitsPiece) return;
    if (this.port.application.storesInput) this.commitSoon(SPOOL_DELAY_MS.stored);
    else if (this.input.held >= SPOOL_AT_ONCE) this.port.commit();
    else this.commitSoon(SPOOL_DELAY_MS[this.input.held <= SEGMENT_BYTES ? "segment" : "more"]);
  }

  private redeliver(spool: Buffer): void {
    if (spool.length > 0) this.deliver(spool);
    if (this.port.isOver) return;
    this.regulate();
    if (this.input.ended) this.port.application.inputEnd();
  }

  private async replay(spool: Buffer): Promise<void> {
    const { input, port } = this;
    this.delivered = input.processed;
    this.regulate();
    while (this.delivered < input.spilled) {
      try {
        await this.replayFrom(this.delivered, input.spilled);
      } catch (error) {
        if (port.isOver) return;
        if (!(error instanceof BatonError) || error.code !== "STORE_UNAVAILABLE") throw error;
        this.host.commits.replays.add(this.identity.id, error); // the connection waits for the store as any other
      }
      if (port.isOver) return;
    }
    this.delivered = undefined;
    this.redeliver(spool);
  }

  private async replayFrom(from: Offset, to: Offset): Promise<void> {
    const { input, port } = this;
    this.delivered = from;
    for await (const part of this.spilling.read(from, to)) {
      if (port.isOver) return;
      this.delivered += part.length;
      port.application.input(part);
      while (!port.isOver && this.delivered - input.taken > this.host.limits.inputBytes) await this.movement();
    }
  }

  private movement(): Promise<void> {
    return new Promise((resolve) => {
      this.moved = resolve;
    });
  }

  private spill(): void {
    if (this.keeps === 0 || this.port.isOver || this.isReplaying) return;
    if (this.host.unprotected || this.spilling.isOld) {
      queueMicrotask(() => this.letGo()); // the layer has the word
      return;
    }
    if (this.spilling.isRunning) return;
    const { from, bytes } = this.input.spillable();
    this.spilling.write(this.input.processed, from, bytes)?.then(
      (to) => {
        if (this.port.isOver) return;
        this.input.spill(to);
        this.spill(); // what came meanwhile
        this.port.commit();
        this.regulate();
      },
      (error) => {
        if (this.port.isOver) return;
        this.host.commits.spills.add(this.identity.id, error);
        this.letGo();
        this.port.commit();
      },
    );
  }

  private letGo(): void {
    if (!this.port.isOver) this.port.application.letGo?.();
  }

  private regulate(): void {
    const { inputBytes } = this.host.limits;
    const isFull = this.isReplaying || this.input.untaken >= inputBytes || this.input.held >= inputBytes;
    if (isFull) this.port.pauseInput();
    else this.port.resumeInput();
  }
}
