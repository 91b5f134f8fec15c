import { within } from "../../../proto/deadline.js";
import { RefusedError } from "../../../proto/errors.js";
import type { ObjectReference } from "../../../proto/record.js";
import type { Native } from "../../native/api.js";
import {
  type Body,
  type Origin,
  OriginError,
  type OriginRequest,
  type OriginResponse,
  Source,
} from "../../upstream/index.js";
import { type Answer, type Entity, type MadeBody, plain } from "./answer.js";
import { chunkOf, lastChunk } from "./chunked.js";
import { forRange, toClient, toOrigin } from "./forwarding.js";
import type { Asked, Handler, Upload } from "./handler.js";
import { isSafe, type Request } from "./request.js";
import { announcement, passedTrailers } from "./trailers.js";

const AT_ONCE_MS = 100;
/** For an upstream to say whether it has an object still. */
const TRY_MS = 1_000;
const ETAG = "etag:";
/** Beside the safe ones (RFC 9110 section 9.2.2). */
const IDEMPOTENT = new Set(["PUT", "DELETE"]);
/** Answered here, or written anew. */
const OURS = new Set(["expect", "content-length"]);

/** What a service's configuration says of its upstream. */
export interface UpstreamPolicy {
  /** Which requests may be executed again where their server dies before it has answered; safe ones always. */
  repeat: "idempotent" | "all" | "none";
  /** A body of at most so many bytes that is there at once is promised as it is. A larger one has to be had again. */
  literalBytes: number;
}

/** Hands requests on to an HTTP/1.1 server behind this one, its twins on the other servers behind those. */
export class UpstreamHandler implements Handler {
  constructor(
    private readonly origin: Origin,
    private readonly native: Pick<Native, "spool" | "closeFd">,
    private readonly policy: UpstreamPolicy,
    private readonly tryMs = TRY_MS,
  ) {}

  refusal({ method, hasBody, headers }: Request): Answer | undefined {
    if (method === "CONNECT" || method === "TRACE") return plain(501, { close: true });
    if (headers.has("upgrade")) return plain(501, { close: hasBody });
    const expect = headers.get("expect");
    if (expect !== undefined && expect.toLowerCase() !== "100-continue") return plain(417, { close: hasBody });
    return undefined;
  }

  mayRepeat(request: Request): boolean {
    const { repeat } = this.policy;
    if (isSafe(request) || repeat === "all") return true;
    return repeat === "idempotent" && (IDEMPOTENT.has(request.method) || request.headers.has("idempotency-key"));
  }

  async answer(asked: Asked): Promise<Answer> {
    const { request } = asked;
    try {
      return await this.answerWith(await this.origin.ask(this.handedOn(asked), this.mayRepeat(request)), asked);
    } catch (error) {
      if (!(error instanceof OriginError)) throw error;
      return plain(error.status, { close: false });
    }
  }

  upload(asked: Asked): Upload {
    const { request, gone } = asked;
    const headers = this.linesFor(asked);
    const length = request.headers.get("content-length");
    if (length === undefined) headers.push(...announcement(request.lines), ["Transfer-Encoding", "chunked"]);
    else headers.push(["Content-Length", length]);
    const { method, target, body } = request;
    const { request: sent, response } = this.origin.upload({ method, target, headers, body, gone });
    const upload: Upload = {
      write: (part) => void sent.write(part),
      get isCongested() {
        return sent.writableNeedDrain;
      },
      onRoom: () => {},
      end: (trailers) => {
        sent.addTrailers(passedTrailers(trailers, request.lines));
        sent.end();
      },
      answer: response
        .then((head) => this.answerWith(head, asked))
        .catch((error) => plain(error instanceof OriginError ? error.status : 502, { close: false })),
      stop: () => void sent.destroy(),
    };
    sent.on("drain", () => upload.onRoom());
    return upload;
  }

  /** A body that came in chunks has a length by now; what trailed it is dropped, as whoever undoes the coding may (RFC 9112 section 7.1.2). */
  private handedOn(asked: Asked): OriginRequest {
    const { request, gone } = asked;
    const { method, target, body } = request;
    const headers = this.linesFor(asked);
    if (request.hasBody || request.headers.has("content-length")) headers.push(["Content-Length", String(body.length)]);
    return { method, target, headers, body, gone };
  }

  /** Without what says how long a body is. HTTP/1.0 knows requests without a Host, HTTP/1.1 does not. */
  private linesFor({ request, client }: Pick<Asked, "request" | "client">): Array<[string, string]> {
    const lines = toOrigin(request, client).filter(([name]) => !OURS.has(name.toLowerCase()));
    return request.headers.has("host") ? lines : [["Host", this.origin.host], ...lines];
  }

  /** Without an await before the body is taken: that must be done in the step in which the head came. */
  private async answerWith({ status, reason, headers, body }: OriginResponse, asked: Asked): Promise<Answer> {
    const lines = toClient(headers);
    const answer: Answer = { status, reason, headers: lines, body: Buffer.alloc(0), close: false };
    if (asked.request.method === "HEAD" || status === 204 || status === 304) {
      body.none();
      return answer;
    }
    const length = lengthOf(headers);
    const others = lines.filter(([name]) => name.toLowerCase() !== "content-length");
    const inChunks = asked.request.minorVersion > 0;
    const announced = length === undefined && inChunks ? announcement(headers) : [];
    const { literalBytes } = this.policy;
    if (length === undefined || length <= literalBytes) {
      const whole = body.atOnce(literalBytes);
      const begun: Beginning | undefined = whole
        ? { bytes: whole }
        : await beginning(body.parts(), literalBytes).catch(() => undefined);
      if (!begun) return plain(502, { close: false });
      const { bytes, rest } = begun;
      if (rest) return { ...answer, headers: [...others, ...announced], made: madeOf(body, headers, rest) };
      const trailers = inChunks ? passedTrailers(body.trailers, headers) : [];
      if (trailers.length > 0) {
        return {
          ...answer,
          headers: [...others, ...announced, ["Transfer-Encoding", "chunked"]],
          body: Buffer.concat([...(bytes.length > 0 ? [chunkOf(bytes)] : []), lastChunk(trailers)]),
        };
      }
      return { ...answer, headers: [...others, ["Content-Length", String(bytes.length)]], body: bytes };
    }
    const offset = firstByte(status, headers);
    const etag = lineOf(headers, "etag");
    if (
      asked.request.method !== "GET" ||
      asked.request.hasBody ||
      offset === undefined ||
      !isStrong(etag) ||
      !acceptsRanges(status, headers)
    ) {
      return { ...answer, headers: others, made: madeOf(body, headers) };
    }
    const file = new Source(this.native, offset + length, (from, to, gone) =>
      this.range({ ...asked, gone }, etag, from, to),
    );
    try {
      file.beginWith(offset, body);
    } catch (error) {
      file.close();
      body.discard();
      throw error;
    }
    const found: Entity = { objectId: asked.request.target, file, validator: `${ETAG}${etag}` };
    return { ...answer, object: { found, offset, length } };
  }

  async repeat(asked: Asked, status: number): Promise<MadeBody> {
    const response = await this.origin.ask(this.handedOn(asked), true);
    const { body, headers } = response;
    if (response.status === status) return madeOf(body, headers);
    body.discard();
    if (response.status >= 500) throw new OriginError(502, `${this.origin.url} answered ${response.status}`);
    throw new RefusedError("response changed", `its upstream answers ${response.status} now, and not ${status}`);
  }

  /** Its last byte is asked for: if that is there, of the same object, all of it is. */
  async open({ validator, objectOffset, length }: ObjectReference, asked: Asked | undefined, sure: boolean) {
    if (!asked || !validator.startsWith(ETAG)) throw new RefusedError(NO_VALIDATOR);
    const etag = validator.slice(ETAG.length);
    const end = objectOffset + length;
    await this.tryByte(asked, etag, end, sure);
    return new Source(this.native, end, (from, to, gone) => this.range({ ...asked, gone }, etag, from, to));
  }

  /** A spool is not passed on: it is opened and fetched again. */
  async take(_reference: ObjectReference, fd: number): Promise<Entity> {
    this.native.closeFd(fd);
    throw new RefusedError("contradictory HTTP state", "an upstream's object is no file");
  }

  private async tryByte(asked: Asked, etag: string, end: number, sure: boolean): Promise<void> {
    const tried = this.range(asked, etag, end - 1, end).then((body) => body.collect(1));
    try {
      await within(this.tryMs, tried, () => new OriginError(504, `no answer within ${this.tryMs} ms`));
    } catch (error) {
      if (error instanceof RefusedError) throw error;
      const why = `its upstream does not answer: ${(error as Error).message}`;
      if (sure) throw new RefusedError("its upstream does not answer", why);
    }
  }

  /** Throws RefusedError, OriginError. */
  private async range({ request, client, gone }: Asked, etag: string, from: number, to: number): Promise<Body> {
    const { status, headers, body } = await this.origin.ask(
      {
        method: "GET",
        target: request.target,
        headers: forRange(this.linesFor({ request, client }), etag, from, to),
        body: Buffer.alloc(0),
        gone,
      },
      true,
    );
    const same = lineOf(headers, "etag") === etag;
    if (status === 206 && same && firstByte(status, headers) === from && lengthOf(headers) === to - from) return body;
    body.discard();
    if (status >= 500) throw new OriginError(502, `${this.origin.url} answered ${status}`);
    if (status === 404 || status === 410) throw new RefusedError("object missing", `${request.target} is not here`);
    throw new RefusedError("object changed", `${request.target} is not ${etag} here, or not in ranges (${status})`);
  }
}

const NO_VALIDATOR = "its upstream gives it no strong validator, or no ranges";

/** @param parts all of it, where it has been begun with */
function madeOf(body: Body, headers: OriginResponse["headers"], parts = body.parts()): MadeBody {
  const length = lengthOf(headers);
  return {
    ...(length === undefined ? {} : { length }),
    parts,
    trailers: () => passedTrailers(body.trailers, headers),
    stop: () => body.discard(),
  };
}

interface Beginning {
  bytes: Buffer;
  /** All of it, where `bytes` was not all. */
  rest?: AsyncGenerator<Buffer, void>;
}

/** What comes soon, if it is no more than `max` bytes. */
async function beginning(parts: AsyncGenerator<Buffer, void>, max: number): Promise<Beginning> {
  const got: Buffer[] = [];
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(resolve, AT_ONCE_MS, "late");
  });
  try {
    for (let length = 0; ; ) {
      const next = parts.next();
      next.catch(() => {}); // whoever goes on with it hears of it
      const result = await Promise.race([next, late]);
      const bytes = Buffer.concat(got);
      if (result === "late") return { bytes, rest: all(got, next, parts) };
      if (result.done) return { bytes };
      length += result.value.length;
      if (length > max) return { bytes, rest: all(got, next, parts) };
      got.push(result.value);
    }
  } finally {
    clearTimeout(timer);
  }
}

async function* all(
  got: Buffer[],
  next: Promise<IteratorResult<Buffer, void>>,
  parts: AsyncGenerator<Buffer, void>,
): AsyncGenerator<Buffer, void> {
  yield* got;
  const { done, value } = await next;
  if (done) return;
  yield value;
  yield* parts;
}

function lineOf(lines: ReadonlyArray<[string, string]>, name: string): string | undefined {
  return lines.find(([given]) => given.toLowerCase() === name)?.[1];
}

/** undefined where the length is not stated, or the body is coded for its transfer. */
function lengthOf(lines: ReadonlyArray<[string, string]>): number | undefined {
  const stated = lineOf(lines, "content-length");
  if (stated === undefined || lineOf(lines, "transfer-encoding") !== undefined) return undefined;
  return Number(stated);
}

/** Where in the object the body begins; undefined where it is no one part of it. */
function firstByte(status: number, lines: ReadonlyArray<[string, string]>): number | undefined {
  if (status === 200) return 0;
  const first = /^bytes (\d+)-\d+\/(?:\d+|\*)$/.exec(lineOf(lines, "content-range") ?? "")?.[1];
  return status === 206 && first !== undefined ? Number(first) : undefined;
}

/** RFC 9110 section 8.8.3. */
function isStrong(etag: string | undefined): etag is string {
  return etag !== undefined && /^"[\x21\x23-\x7e\x80-\xff]*"$/.test(etag);
}

function acceptsRanges(status: number, lines: ReadonlyArray<[string, string]>): boolean {
  return status === 206 || lineOf(lines, "accept-ranges")?.toLowerCase() === "bytes";
}
