import { fstatSync } from "node:fs";
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
import type { Area, Areas } from "./areas.js";
import { failureReply } from "./failure.js";
import { fileError, type RootFile } from "./root.js";
import { Storing } from "./storing.js";
import { listAgain, type Opened, TRANSFERS } from "./transfer.js";

/** Of a listing, promised at a time: it is part of records until the client has it. */
const LISTING_PART = 65_536;
const NOTHING: Buffer = Buffer.alloc(0);

/** The control connection, as its data connections see it. */
export interface TransferOwner {
  /** A data connection has come. */
  opened(data: FtpDataLayer): void;
  /**
   * A transfer has ended; said again is nothing.
   * @param failure what the client is told of one that is not complete; missing: that it is broken
   * @returns resolves when the end is recorded: until then the data connection's record says it
   */
  transferred(data: FtpDataLayer, isComplete: boolean, failure?: Buffer): Promise<void>;
}

/**
 * One data connection of FTP: its stream is one object, one listing or one upload.
 *
 *   opened ─► waits for its command ─► sends ─► all acknowledged ────────────────────┐
 *                                  └─► stores ─► FIN, all stored, and recorded so ─┴► transferred: 226 is recorded ─► over
 */
export class FtpDataLayer implements ApplicationLayer {
  readonly name = "ftp-data";
  private job: FtpTransfer | undefined;
  private listing = NOTHING;
  private length = 0;
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
  /** Of the listing, promised. */
  private listed = 0;
  private failure: Buffer | undefined;

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

  /** All of it is at its place. */
  get isDone(): boolean {
    return this.isComplete;
  }

  /** Bytes that have come, or that the client has. */
  get bytes(): number {
    if (this.job && TRANSFERS[this.job.verb] === "store") return this.received;
    const { port } = this;
    return Math.min(port.acknowledged(), port.tail() - (port.ended() ? 1 : 0));
  }

  /** Resolves when its record says what it is for. */
  recorded(): Promise<void> {
    return this.port.recorded();
  }

  begin(): void {
    void this.port.recorded(); // a survivor is to know of it as soon as its client does
    if (this.owner) this.owner.opened(this);
    else void this.port.reset("its control connection is gone");
  }

  /** Its command has come. @param transfer with this connection's id */
  start(transfer: FtpTransfer, opened: Opened): void {
    this.job = transfer;
    switch (opened.kind) {
      case "retrieve":
        this.send(opened.found, transfer.start);
        break;
      case "list":
        this.listing = opened.bytes;
        this.length = opened.bytes.length;
        this.sha256 = opened.sha256;
        this.sendListing();
        break;
      case "store":
        this.begins(opened.file);
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
    const literal = this.listing.subarray(this.listed, this.listed + LISTING_PART);
    this.listed += literal.length;
    const fin = this.listed >= this.listing.length;
    this.port.respond({ pieces: literal.length > 0 ? [{ literal }] : [], fin, processed: this.received });
  }

  /** An upload begins once it is recorded where: what was there before is not to be taken for a part of it. */
  private begins(file: RootFile): void {
    const { job } = this;
    if (!job) return;
    this.file = file;
    if (job.verb === "APPE") this.job = { ...job, start: fstatSync(file.fd).size }; // others may have appended since it was opened
    void this.port.recorded().then(() => this.store(0, job.verb === "STOR" && job.start === 0));
  }

  private store(from: number, empties: boolean): void {
    const { file, job } = this;
    if (!file || !job) return;
    this.file = undefined;
    this.storing = new Storing({
      ...{ file, base: job.start, from, empties },
      stored: (offset) => {
        this.port.processed(offset);
        void this.port.recorded();
        this.finishStoring();
      },
      failed: (error) => {
        this.failure = failureReply(fileError(error, job.path));
        void this.port.reset(`the upload cannot be written: ${error.message}`);
      },
    });
    for (const chunk of this.waiting.splice(0)) this.storing.add(chunk);
    this.finishStoring();
  }

  /** First it is recorded here that all is stored: whoever finds that does not touch the file again. */
  private finishStoring(): void {
    if (!this.inputEnded || !this.storing?.isIdle || this.isComplete) return;
    this.isComplete = true;
    if (!this.port.ended()) this.port.respond({ pieces: [], fin: true, processed: this.received });
    void this.port.recorded().then(() => this.complete());
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
    return this.storing !== undefined || this.file !== undefined;
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
    if (this.storing || this.file) {
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
    const { job, sha256, length, listed, isComplete: complete } = this;
    block.push(encodeFtpDataSection({ ...(job ? { transfer: job } : {}), sha256, length, listed, complete }));
  }

  async unready(section: LayerSection): Promise<void> {
    const { transfer, sha256, length, listed, complete } = decodeFtpDataSection(section);
    Object.assign(this, { job: transfer, sha256, length, listed, isComplete: complete });
    if (!transfer || complete) return;
    const area = await this.areas.of(transfer.user);
    switch (TRANSFERS[transfer.verb]) {
      case "store":
        this.file = await this.reopen(area, transfer);
        break;
      case "list":
        // What is promised is in the record.
        if (listed < length) this.listing = await listAgain(transfer, area, sha256);
        break;
      case "retrieve":
        break;
      default:
        throw new RefusedError("unknown transfer", `nothing is known of ${transfer.verb}`);
    }
  }

  /** The upload's file, with what its client takes for stored. */
  private async reopen({ root }: Area, { path, start }: FtpTransfer): Promise<RootFile> {
    const refuse = (why: string, cause?: unknown) => new RefusedError("the upload cannot go on", why, cause);
    const file = await root.openWrite(path, "there").catch((error: Error) => {
      throw refuse(error.message, error);
    });
    const needed = start + this.received;
    if (this.received === 0 || file.size >= needed) return file;
    file.close();
    throw refuse(`${path} has ${file.size} bytes here, and should have ${needed}: is the directory shared?`);
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
    const { job } = this;
    if (this.file) this.store(this.received, this.received === 0 && job?.verb === "STOR" && job.start === 0);
    else if (this.isComplete) queueMicrotask(() => this.complete());
    else if (this.listed < this.length) queueMicrotask(() => this.advance()); // its client may have all that was promised
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
    return this.owner?.transferred(this, this.isComplete || this.isSent, this.failure);
  }
}
