import { RefusedError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import type { Native, Spool } from "../native/api.js";
import type { ObjectStream, OpenObject } from "../protocols/application.js";
import type { Body } from "./body.js";
import { AWAY_MS, RETRY_MS } from "./patience.js";

const log = logger("upstream");
/** An origin that sends nothing for so long, while a client waits, is asked again. */
const STALL_MS = 30_000;

/**
 * Asks for the object's bytes [from, to). Throws RefusedError where they are not of the same object any more.
 * @param gone nobody needs them any more
 */
export type Resume = (from: number, to: number, gone: AbortSignal) => Promise<Body>;

/**
 * The bytes of an object up to `end`, fetched from an origin as a client takes them. A body that ends early is asked for again from
 * where it ended: the object's validator says that it is the same.
 */
export class Source implements OpenObject, ObjectStream {
  private content: Spool | undefined;
  private kept = 0;
  private renewing = false;
  private lastFilled = -1;
  private since = 0;
  private over = false;
  private readonly gone = new AbortController();
  private fail!: (reason: string) => void;
  readonly lost = new Promise<string>((resolve) => {
    this.fail = resolve;
  });

  constructor(
    private readonly native: Pick<Native, "spool">,
    private readonly end: number,
    private readonly resume: Resume,
  ) {}

  get fd(): number {
    return this.content?.fd ?? -1;
  }
  get stream(): ObjectStream {
    return this;
  }
  get spool(): Spool | undefined {
    return this.content;
  }

  begin(position: number): void {
    if (this.content || this.over) return;
    this.kept = position;
    this.content = this.native.spool({ start: position, end: this.end, onBroken: (code) => void this.renew(code) });
  }

  /** Begins with an answer that has come already. */
  beginWith(position: number, body: Body): void {
    this.begin(position);
    if (this.content) body.handOver(this.content);
    else body.discard();
  }

  async fetch(from: number, to: number): Promise<void> {
    this.begin(from);
    const spool = this.content;
    if (!spool || spool.filled() >= to) return;
    const begin = spool.filled();
    const bytes = await (await this.resume(begin, to, this.gone.signal)).collect(to - begin);
    if (bytes?.length !== to - begin)
      throw new RefusedError("object changed", "its origin gave other bytes than asked for");
    if (!this.over) spool.put(bytes);
  }

  known(below: number): { position: number; byte: number } | undefined {
    const position = this.content?.known(below) ?? -1;
    return this.content && position >= 0 ? { position, byte: this.content.byteAt(position) } : undefined;
  }

  release(below: number): void {
    if (!this.content) return;
    this.lookForStall(this.content, below);
    if (below <= this.kept) return;
    this.kept = below;
    this.content.release(below);
  }

  get isDone(): boolean {
    return this.content !== undefined && this.kept >= this.end - 1;
  }

  /** The client has all that has come, and nothing comes: an origin that stands still is as good as none. */
  private lookForStall(spool: Spool, below: number): void {
    const filled = spool.filled();
    const now = performance.now();
    if (filled !== this.lastFilled || below < filled - 1 || filled >= this.end) {
      this.lastFilled = filled;
      this.since = now;
    } else if (now - this.since > STALL_MS) {
      this.since = now;
      void this.renew("ETIMEDOUT");
    }
  }

  close(): void {
    this.over = true;
    this.gone.abort();
    this.content?.close();
    this.content = undefined;
  }

  /** Another body, from where the last one ended. */
  private async renew(code: string): Promise<void> {
    if (this.renewing) return;
    this.renewing = true;
    const deadline = performance.now() + AWAY_MS;
    try {
      while (this.content && this.content.filled() < this.end) {
        try {
          const body = await this.resume(this.content.filled(), this.end, this.gone.signal);
          if (this.content) body.handOver(this.content);
          else body.discard();
          return;
        } catch (error) {
          if (error instanceof RefusedError || performance.now() > deadline) return this.fail((error as Error).message);
          log.warn({ err: error, code }, "an object's origin is away in the middle of it");
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        }
      }
    } finally {
      this.renewing = false;
    }
  }
}
