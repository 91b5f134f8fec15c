import { RefusedError } from "../../../proto/errors.js";
import type { LayerSection, ObjectReference } from "../../../proto/record.js";
import { decodeFtpDataSection, encodeFtpDataSection, type FtpTransfer } from "../../../proto/sections.js";
import type { Found } from "../../content/index.js";
import type {
  ApplicationDescription,
  ApplicationLayer,
  ConnectionPort,
  OpenObject,
  TakenObject,
} from "../application.js";
import type { Areas } from "./areas.js";
import type { RootFile } from "./root.js";
import { Storing } from "./storing.js";
import { listAgain, type Prepared, TRANSFERS } from "./transfer.js";

/** Of a listing, promised at a time: it is part of records until the client has it. */
const LISTING_PART = 65_536;
const NOTHING: Buffer = Buffer.alloc(0);

/** The control connection, as its data connections see it. */
export interface TransferOwner {
  /** A data connection has come. */
  opened(data: FtpDataLayer): void;
  /**
   * A transfer has ended; said again is nothing.
   * @returns resolves when the end is recorded: until then the data connection's record says it
   */
  transferred(data: FtpDataLayer, isComplete: boolean): Promise<void>;
}

/**
 * One data connection of FTP: its stream is one object, one listing or one upload.
 *
 *   opened ─► waits for its command ─► sends ─► all acknowledged ─┐
 *                                  └─► stores ─► FIN, all stored ─┴► transferred: 226 is recorded ─► over
 */
export class FtpDataLayer implements ApplicationLayer {
  readonly name = "ftp-data";
  private job: FtpTransfer | undefined;
  private listing = NOTHING;
  private sha256 = NOTHING;
  private storing: Storing | undefined;
  /** For the upload that is to go on here. */
  private file: RootFile | undefined;
  /** What has come and nobody has a use for yet. */
  private waiting: Buffer[] = [];
  private received: number;
  private inputEnded = false;
  private isUndone = false;
  private isComplete = false;

  constructor(
    private readonly port: ConnectionPort,
    inputOffset: number,
    private readonly areas: Areas,
  ) {
    this.received = inputOffset;
  }

  get id(): string {
    return this.port.id;
  }

  /** What it is for; undefined while it waits for that. */
  get transfer(): FtpTransfer | undefined {
    return this.job;
  }

  /** Its client may be gone before anything has begun. */
  get isUsable(): boolean {
    return !this.port.ended();
  }

  private get owner(): TransferOwner | undefined {
    return this.port.bundle?.control as (ApplicationLayer & TransferOwner) | undefined;
  }

  begin(): void {
    if (this.owner) this.owner.opened(this);
    else void this.port.reset("its control connection is gone");
  }

  /** Its command has come. @param transfer with this connection's id */
  start(transfer: FtpTransfer, prepared: Prepared): void {
    this.job = transfer;
    switch (prepared.kind) {
      case "retrieve":
        this.send(prepared.found, transfer.start);
        break;
      case "list":
        this.listing = prepared.bytes;
        this.sha256 = prepared.sha256;
        this.sendListing();
        break;
      case "store":
        this.file = prepared.file;
        this.store(0);
        break;
    }
  }

  /** Its command will not come, or cannot be executed. */
  dismiss(): void {
    if (!this.port.ended()) this.port.respond({ pieces: [], fin: true, processed: this.received });
  }

  /** Nothing more of it is wanted. */
  abort(): Promise<void> {
    return this.port.reset("its client has aborted the transfer");
  }

  private send(found: Found, start: number): void {
    const { objectId, validator, file, pending } = found;
    const length = Math.max(0, file.size - start);
    if (length === 0) file.close();
    const object: ObjectReference = { objectId, validator, objectOffset: start, length };
    this.port.respond({
      pieces: length > 0 ? [{ object, file }] : [],
      fin: true,
      processed: this.received,
      ...(pending && length > 0
        ? { unprotected: "digest pending", protect: pending.then((known) => ({ ...object, validator: known })) }
        : {}),
    });
  }

  private sendListing(): void {
    const from = this.port.tail();
    const literal = this.listing.subarray(from, from + LISTING_PART);
    const fin = from + literal.length >= this.listing.length;
    this.port.respond({ pieces: literal.length > 0 ? [{ literal }] : [], fin, processed: this.received });
  }

  private store(from: number): void {
    const { file, job } = this;
    if (!file || !job) return;
    this.file = undefined;
    this.storing = new Storing(
      file,
      job.start,
      from,
      (offset) => {
        this.port.processed(offset);
        void this.port.recorded();
        this.finishStoring();
      },
      (error) => {
        void this.port.reset(`the upload cannot be written: ${error.message}`);
      },
    );
    for (const chunk of this.waiting.splice(0)) this.storing.add(chunk);
    this.finishStoring();
  }

  private finishStoring(): void {
    if (!this.inputEnded || !this.storing?.isIdle || this.isComplete) return;
    this.complete();
    if (!this.port.ended()) this.port.respond({ pieces: [], fin: true, processed: this.received });
  }

  private complete(): void {
    this.isComplete = true;
    void this.owner?.transferred(this, true);
  }

  /** Of one that has gone with its server nobody knows whether its client had got all of it; it knows itself. */
  private get isSent(): boolean {
    if (!this.job || TRANSFERS[this.job.verb] === "store") return false;
    return this.isUndone || (this.port.ended() && this.port.acknowledged() >= this.port.tail());
  }

  // ---- input ----

  get storesInput(): boolean {
    return this.storing !== undefined;
  }

  input(chunk: Buffer): void {
    this.received += chunk.length;
    if (this.storing) this.storing.add(chunk);
    else if (this.port.ended() || (this.job && TRANSFERS[this.job.verb] !== "store"))
      this.port.processed(this.received);
    else this.waiting.push(chunk);
  }

  inputEnd(isLate = false): void {
    this.inputEnded = !isLate || this.inputEnded;
    if (this.storing) {
      if (isLate) void this.port.reset("its client has sent nothing for too long");
      else this.finishStoring();
    } else if (isLate || this.job) this.dismiss();
  }

  acknowledged(position: number): void {
    if (!this.job || TRANSFERS[this.job.verb] === "store") return;
    // Not at once: a record may be in the making, and a new promise is none of its own.
    if (position >= this.port.tail()) queueMicrotask(() => this.advance());
  }

  private advance(): void {
    if (this.isComplete || this.port.acknowledged() < this.port.tail()) return;
    if (this.port.ended()) this.complete();
    else this.sendListing();
  }

  // ---- takeover ----

  checkpoint(block: LayerSection[]): void {
    const { job, sha256, listing } = this;
    block.push(encodeFtpDataSection({ ...(job ? { transfer: job } : {}), sha256, length: listing.length }));
  }

  async unready(section: LayerSection): Promise<void> {
    const { transfer, sha256, length } = decodeFtpDataSection(section);
    this.job = transfer;
    this.sha256 = sha256;
    if (!transfer) return;
    const area = await this.areas.of(transfer.user);
    switch (TRANSFERS[transfer.verb]) {
      case "store":
        this.file = await area.root.openWrite(transfer.path, "kept").catch((error: Error) => {
          throw new RefusedError("the upload cannot go on", error.message, error);
        });
        break;
      case "list":
        if (length > 0) this.listing = await listAgain(transfer, area, sha256);
        break;
      case "retrieve":
        break;
      default:
        throw new RefusedError("unknown transfer", `nothing is known of ${transfer.verb}`);
    }
  }

  async open(reference: ObjectReference): Promise<OpenObject> {
    return (await this.area()).content.openObject(reference);
  }

  async take(reference: ObjectReference, _offset: number, fd: number): Promise<TakenObject> {
    const found = await (await this.area()).content.takeObject(reference.objectId, fd);
    const { file, pending } = found;
    if (reference.validator !== "" || !pending) return { file };
    return { file, unprotected: "digest pending", protect: pending.then((validator) => ({ ...reference, validator })) };
  }

  private area() {
    if (!this.job) throw new RefusedError("no such object", "nothing is being transferred");
    return this.areas.of(this.job.user);
  }

  ready(): void {
    if (this.file) this.store(this.received);
    else if (this.listing.length > 0) queueMicrotask(() => this.advance()); // its client may have all that was promised
  }

  undo(): void {
    this.isUndone = true;
    this.file?.close();
    this.file = undefined;
  }

  describe(position: number): ApplicationDescription {
    const { job } = this;
    if (!job || TRANSFERS[job.verb] === "list")
      return { object: "", objectOffset: 0, firstByteSequence: 0, requests: job ? 1 : 0 };
    const isStored = TRANSFERS[job.verb] === "store";
    return {
      object: job.path,
      objectOffset: job.start + (isStored ? this.received : position),
      firstByteSequence: isStored ? 0 : this.port.sequence(0),
      requests: 1,
    };
  }

  closed(isOver: boolean): void | Promise<void> {
    this.storing?.close();
    this.file?.close();
    this.waiting = [];
    if (!isOver) return undefined;
    return this.owner?.transferred(this, this.isComplete || this.isSent);
  }
}
