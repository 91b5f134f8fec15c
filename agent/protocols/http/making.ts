import { createHash, type Hash } from "node:crypto";
import { RefusedError } from "../../../proto/errors.js";
import { logger } from "../../../proto/log.js";
import type { Framing, HttpResponse, Making as State } from "../../../proto/sections.js";
import { AWAY_MS, RETRY_MS } from "../../upstream/index.js";
import type { ConnectionPort } from "../application.js";
import type { MadeBody } from "./answer.js";
import { chunkOf, lastChunk } from "./chunked.js";

const log = logger("http");
/** Bytes that are promised ahead of the client: they are literally in the record. */
const AHEAD_MAX = 65_536;
/** Nobody tells of a client's acks: looked for so often, and less and less where none comes. */
const ACK_POLL_MS = 2;
const ACK_POLL_MAX_MS = 100;
const NOT_TWICE = "its request may not be executed again to make its response once more";
/** How long a takeover waits until it is certain that the response can be made again. */
const CERTAIN_MS = 500;

const NO_BYTES_SHA256 = createHash("sha256").digest();

/** Where a making begins. @param length of its body, bytes, where the head states it */
export function nothingMade(framing: Framing, length = 0): State {
  return { bytes: 0, sha256: NO_BYTES_SHA256, framing, length };
}

/**
 * A response whose body is promised bit by bit, as it is made: its length is not known, or nothing says that another server has the
 * same. Where its maker or its server dies it is made again, from its beginning:
 *
 *     made again      |=== thrown away: SHA-256 as the record says? ===|--- promised on --->
 *     promised        |================================================|
 *                                   acknowledged ^    literal in the record
 *
 * Another beginning is another response: it is not gone on with.
 */
export class Making {
  private hash: Hash = createHash("sha256");
  private body: MadeBody | undefined;
  private attempt: Promise<MadeBody> | undefined;
  private over = false;

  /**
   * @param processed the client's stream is used up to here by the response
   * @param repeat makes it again; undefined: that may not be. Throws RefusedError where that is not the same any more
   * @param ended called when all of it is promised
   */
  constructor(
    private readonly port: Pick<ConnectionPort, "tail" | "acknowledged" | "respond" | "reset">,
    private readonly response: HttpResponse & { making: State },
    private readonly processed: () => number,
    private readonly repeat: (() => Promise<MadeBody>) | undefined,
    private readonly ended: () => void,
  ) {}

  /** The connection ends with it. */
  get isLast(): boolean {
    return !this.response.keepAlive;
  }

  /** Why nobody could go on with it; "" = it can be made again. */
  get gap(): string {
    return this.repeat ? "" : NOT_TWICE;
  }

  /** Goes on with its body, or, if it has none, as `certain` has begun. */
  go(body?: MadeBody): void {
    this.body = body;
    void this.run();
  }

  /** Makes it again, for another server's twin. Throws RefusedError; resolves where it is not certain for a while. */
  async certain(): Promise<void> {
    this.attempt = this.again();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CERTAIN_MS);
    });
    try {
      await Promise.race([this.attempt.then(() => {}), late]);
    } catch (error) {
      this.attempt = undefined;
      if (error instanceof RefusedError) throw error; // whatever else: there is time until it is to be sent
    } finally {
      clearTimeout(timer);
    }
  }

  /** Nobody wants the rest. */
  stop(): void {
    this.over = true;
    this.body?.stop();
    this.attempt?.then(
      (body) => body.stop(),
      () => {},
    );
  }

  private async run(): Promise<void> {
    let failingSince: number | undefined;
    while (!this.over) {
      const before = this.response.making.bytes;
      try {
        this.body ??= await (this.attempt ?? this.again());
        this.attempt = undefined;
        if (await this.promiseAll(this.body)) this.end(this.body);
        else this.body.stop();
        return;
      } catch (error) {
        this.body?.stop();
        this.body = undefined;
        this.attempt = undefined;
        if (this.over) return;
        const now = performance.now();
        if (failingSince === undefined || this.response.making.bytes > before) failingSince = now;
        if (error instanceof RefusedError || now - failingSince > AWAY_MS) {
          void this.port.reset((error as Error).message);
          return;
        }
        log.warn({ err: error }, "a response breaks off in the making, and is made again");
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  /** @returns false where nobody wants the rest */
  private async promiseAll({ parts }: MadeBody): Promise<boolean> {
    const { making } = this.response;
    for (;;) {
      await this.room();
      const { done, value } = await parts.next();
      if (this.over) return false;
      if (done) break;
      if (making.framing === "length" && making.bytes + value.length > making.length) {
        throw new RefusedError("response changed", `it has more than the ${making.length} bytes that its head states`);
      }
      if (value.length > 0) this.promise(value);
    }
    if (making.framing === "length" && making.bytes !== making.length) {
      throw new Error(`it has ended after ${making.bytes} bytes of ${making.length}`);
    }
    return true;
  }

  private async room(): Promise<void> {
    for (let pause = ACK_POLL_MS; !this.over; pause = Math.min(2 * pause, ACK_POLL_MAX_MS)) {
      if (this.port.tail() - this.port.acknowledged() < AHEAD_MAX) return;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  private promise(part: Buffer): void {
    const { response } = this;
    this.hash.update(part);
    response.making.bytes += part.length;
    response.making.sha256 = this.hash.copy().digest();
    this.respond(response.making.framing === "chunked" ? chunkOf(part) : part, false);
  }

  /** The trailers are those of whichever made the end. */
  private end({ trailers }: MadeBody): void {
    const { framing } = this.response.making;
    delete (this.response as HttpResponse).making;
    this.over = true;
    this.respond(framing === "chunked" ? lastChunk(trailers?.() ?? []) : Buffer.alloc(0), !this.response.keepAlive);
    this.ended();
  }

  private respond(literal: Buffer, fin: boolean): void {
    this.response.length += literal.length;
    this.port.respond({ pieces: literal.length > 0 ? [{ literal }] : [], fin, processed: this.processed() });
  }

  /** Made again up to where it is promised. Throws RefusedError where it is another one by then. */
  private async again(): Promise<MadeBody> {
    const { bytes, sha256, framing, length } = this.response.making;
    if (!this.repeat) throw new RefusedError("its request may not be executed again");
    const body = await this.repeat();
    try {
      if (framing === "length" && body.length !== undefined && body.length !== length) {
        throw new RefusedError("response changed", `it has ${body.length} bytes when it is made again, not ${length}`);
      }
      const hash = createHash("sha256");
      let rest: Buffer | undefined;
      for (let left = bytes; left > 0; ) {
        const { done, value } = await body.parts.next();
        if (this.over) throw new Error("nobody wants it any more");
        if (done) throw new RefusedError("response changed", `it has fewer than ${bytes} bytes when it is made again`);
        const part = value.subarray(0, left);
        hash.update(part);
        left -= part.length;
        rest = value.subarray(part.length);
      }
      if (!hash.copy().digest().equals(sha256)) {
        throw new RefusedError("response changed", `its first ${bytes} bytes are others when it is made again`);
      }
      this.hash = hash;
      return rest ? { ...body, parts: after(rest, body.parts) } : body;
    } catch (error) {
      body.stop();
      throw error;
    }
  }
}

async function* after(first: Buffer, others: AsyncIterator<Buffer, void>): AsyncGenerator<Buffer, void> {
  yield first;
  for (;;) {
    const { done, value } = await others.next();
    if (done) return;
    yield value;
  }
}
