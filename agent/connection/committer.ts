import { BatonError } from "../../proto/errors.js";
import { type ConnectionRecord, decodeRecord, encodeRecord } from "../../proto/record.js";
import { ConflictError, type ConnectionsBucket, type Present } from "../../proto/store/index.js";
import type { CommitMeter } from "./commit_meter.js";
import { life } from "./life.js";

export interface CommitSource {
  /** The record as it is now. */
  snapshot(): ConnectionRecord;
  /** This snapshot is in the store. */
  committed(record: ConnectionRecord): void;
  /** Whether output and acks go ahead of the record for now: the operator chose so for a store that is gone. */
  goesAhead(): boolean;
  /** Another writer owns the key. */
  lost(why: string): void;
  /** No record can be made: it breaks its own rules, or the store never takes one of this size. */
  broken(error: Error): void;
}

/** Between writes that the store refuses at once, milliseconds. */
const REFUSED_PAUSE_MS = 100;
/** Of this process: a connection that is rebuilt here writes under the same names again, and message ids must not come twice. */
let writes = 0;

/**
 * Writes one connection's record: one write in flight, and whatever changes meanwhile goes into the next one. A write that
 * the store cannot take now is repeated with the same message id until it is taken or lost.
 */
export class Committer {
  private dirty = false;
  private running: Promise<void> | undefined;
  private stopped = false;
  private paused = false;

  constructor(
    private readonly bucket: ConnectionsBucket,
    private readonly id: string,
    private readonly writer: string,
    private at: number,
    private readonly source: CommitSource,
    private readonly meter: CommitMeter,
  ) {}

  /** Of the last write that was acknowledged; 0 = none. */
  get revision(): number {
    return this.at;
  }
  get everCommitted(): boolean {
    return this.at > 0;
  }
  /** Something has changed that no write has begun to take along. */
  get behind(): boolean {
    return this.dirty;
  }

  /** Everything is in the store, and acknowledged. */
  get isSettled(): boolean {
    return !this.dirty && !this.running;
  }

  /** Something changed: it will be in the store at the end of this turn of the loop, or in the write after the running one. */
  request(): void {
    this.dirty = true;
    if (this.source.goesAhead() && !this.stopped) this.source.committed(this.source.snapshot());
    if (!this.running && !this.stopped && !this.paused) {
      this.running = this.run();
    }
  }

  /** Nothing is written until `resume`. Resolves when the write in flight is done, or its outcome known. */
  async pause(): Promise<void> {
    this.paused = true;
    await this.running;
  }

  /** @param revision of the record as it is in the store by now. */
  resume(revision: number): void {
    this.paused = false;
    this.at = revision;
    if (this.dirty) this.request();
  }

  stop(): void {
    this.stopped = true;
  }

  /** The connection is over: its record goes, after the write in flight. @returns whether there is none of it now */
  async remove(): Promise<boolean> {
    this.stopped = true;
    await this.running;
    if (this.at === 0) return true;
    try {
      await this.bucket.remove(this.id, this.at);
      return true;
    } catch {
      // Another owner's now, or the store is away for long: the table's sweep removes records without a connection.
      return false;
    }
  }

  private async run(): Promise<void> {
    await null; // everything that this turn of the loop changes goes into one write
    try {
      while (this.dirty && !this.stopped && !this.paused) await this.write();
    } catch (error) {
      this.stopped = true;
      this.source.broken(error as Error);
    } finally {
      this.running = undefined; // in the same step as the last look at `dirty`: no request falls in between
    }
  }

  private async write(): Promise<void> {
    this.dirty = false;
    const record = this.source.snapshot();
    const bytes = encodeRecord(record);
    const startedAt = performance.now();
    try {
      this.at = await this.bucket.commit(this.id, bytes, this.at, `${this.id}/${this.writer}/${life}/${++writes}`);
    } catch (error) {
      if (this.stopped) return;
      if (!(error instanceof ConflictError)) await this.refused(error as Error);
      else if (!this.isOurs(error.present)) return this.source.lost("another server owns the record");
      // The store was away for long, or an earlier write of ours had landed after all. Nothing leaves meanwhile; TCP bears it.
      this.dirty = true;
      return;
    }
    this.meter.took(performance.now() - startedAt);
    if (!this.stopped) this.source.committed(record);
  }

  /** Throws what will be the same however often it is tried; else the next try may follow. */
  private async refused(error: Error): Promise<void> {
    if (error instanceof BatonError && error.code === "STORE_TOO_SMALL") throw error;
    this.meter.refuse(this.id, error);
    await new Promise((resolve) => setTimeout(resolve, REFUSED_PAUSE_MS));
  }

  /** An earlier write of this very worker whose acknowledgement never came: the next one goes on top of it. */
  private isOurs(present: Present): boolean {
    if (present.removed || present.revision === 0 || decodeRecord(present.bytes).writer !== this.writer) return false;
    this.at = present.revision;
    return true;
  }
}
