import { RefusedError } from "../../../proto/errors.js";
import type { LayerSection, ObjectReference } from "../../../proto/record.js";
import {
  decodeHttpSection,
  encodeHttpSection,
  type HttpResponse,
  type Making as MakingState,
} from "../../../proto/sections.js";
import type {
  ApplicationDescription,
  ApplicationLayer,
  ConnectionPort,
  OpenObject,
  Response,
  ResponsePiece,
  TakenObject,
} from "../application.js";
import { type Answer, type Entity, messageOf, plain } from "./answer.js";
import type { Asked, Handler } from "./handler.js";
import { Making, nothingMade } from "./making.js";
import { isSafe, NO_REQUEST, type Request, RequestReader, requestOf } from "./request.js";
import { Responses } from "./responses.js";
import { Uploading } from "./uploading.js";

/** Bytes that are remembered as the head of what was no request. */
const BAD_HEAD_KEPT = 1_024;

/** What keeps a connection from reading on: one request, until all of its answer is promised. */
type Work =
  | { kind: "executing"; request: Request }
  /** Its body is handed on as it comes; where it is `kept` it can be handed on again by whoever takes over. */
  | Uploads
  /** It is answered, but for the body, which is promised as it is made. */
  | { kind: "making"; making: Making };

interface Uploads {
  kind: "uploading";
  request: Request;
  uploading: Uploading;
  kept: boolean;
}

/**
 * HTTP/1.1 of one connection. Requests are answered one after the other, each with one promise which
 * covers the whole response:
 *
 *   input ──► reader ── head ──► refusal? ──┐
 *     ▲          └──── end ──► handler ─────┴► promise (head + object) ──► next request, while no more than 16 are ahead
 *     └ kept here and in the record's spool until its request is answered: the twin on another server reads it again
 */
export class HttpLayer implements ApplicationLayer {
  readonly name = "http";
  private readonly responses: Responses;
  private requests = 0;

  /** Input that the reader has not seen. */
  private waiting: Buffer[] = [];
  /** Client stream offset up to which input has come, and up to which the reader has seen it. */
  private received: number;
  private seen: number;
  private inputEnded = false;
  /** What a request is answered of which nothing more will come. */
  private incomplete = 400;

  private reader: RequestReader | undefined;
  /** Client stream offset of the request that is being read. */
  private requestAt = 0;
  private request: Request | undefined;
  private work: Work | undefined;
  /** Head of the request whose body is being handed on and not kept; empty where there is none. The record says so before
   * anything of it is gone: whoever finds it there gives up on it. */
  private unkept: Buffer = Buffer.alloc(0);
  /** The next request that may not be executed twice has been begun. */
  private begun = false;
  private over = false;
  private readonly gone = new AbortController();

  constructor(
    private readonly port: ConnectionPort,
    inputOffset: number,
    private readonly handler: Handler,
    private readonly nowMs: () => number = Date.now,
  ) {
    this.received = inputOffset;
    this.seen = inputOffset;
    this.responses = new Responses((offset) => port.holds(offset));
  }

  // ---- input ----

  input(chunk: Buffer): void {
    this.received += chunk.length;
    if (this.work?.kind === "making" && this.work.making.isLast) {
      this.seen = this.received;
      this.port.processed(this.received); // nothing behind the last response is of use
      return;
    }
    this.waiting.push(chunk);
    if (this.work?.kind === "uploading") this.feed(this.work);
    else this.advance();
  }

  inputEnd(isLate = false): void {
    this.inputEnded = true;
    if (isLate) this.incomplete = 408;
    if (this.work?.kind === "uploading" && this.waiting.length === 0) this.work.uploading.inputEnd(this.incomplete);
    this.advance();
  }

  acknowledged(position: number): void {
    this.responses.advance(position);
    // Not at once: a record may be in the making, and a new promise is none of its own.
    if (this.waiting.length > 0 || this.inputEnded) queueMicrotask(() => this.advance());
  }

  /** Reads and answers as far as possible. */
  private advance(): void {
    while (!this.over && !this.work) {
      if (this.port.ended()) {
        this.discard();
        return;
      }
      if (!this.responses.hasRoom) return;
      const chunk = this.waiting.shift();
      if (!chunk) break;
      this.read(chunk);
    }
    if (this.inputEnded && !this.over && !this.work) this.end();
  }

  private end(): void {
    if (this.request || this.reader?.begun)
      this.promise(plain(this.incomplete, { close: true }), this.request ?? NO_REQUEST);
    else this.port.respond({ pieces: [], fin: true, processed: this.received });
    this.discard();
  }

  private read(chunk: Buffer): void {
    if (!this.reader) {
      this.reader = new RequestReader();
      this.requestAt = this.seen;
    }
    const progress = this.reader.read(chunk);
    if (progress.kind === "more") {
      this.seen += chunk.length;
      return;
    }
    if (progress.kind === "bad") {
      const head = this.request?.head ?? Buffer.from(chunk.subarray(0, BAD_HEAD_KEPT));
      this.promise(plain(progress.status, { close: true }), { ...NO_REQUEST, head });
      return;
    }
    this.seen += progress.taken;
    const rest = chunk.subarray(progress.taken);
    if (progress.kind === "head") {
      this.request = progress.request;
      const answer = this.handler.refusal(progress.request);
      if (answer?.close) {
        this.promise(answer, progress.request);
        return;
      }
      if (rest.length === 0 && this.waiting.length === 0) this.invite(progress.request);
      this.waiting.unshift(rest); // even if it is empty: the reader has to be asked whether the request ends here
      if (progress.request.isLarge) void this.upload(progress.request, this.reader);
      return;
    }
    if (rest.length > 0) this.waiting.unshift(rest);
    if (progress.kind === "large") {
      void this.upload(this.request as Request, this.reader);
      return;
    }
    this.freeReader();
    void this.answer(this.request as Request);
  }

  /** Who waits with the body of its request until it is asked for it gets to hear that it is (RFC 9110 section 10.1.1). */
  private invite({ headers, hasBody, minorVersion }: Request): void {
    if (!hasBody || minorVersion === 0 || headers.get("expect")?.toLowerCase() !== "100-continue") return;
    this.port.respond({ pieces: [{ literal: CONTINUE }], processed: this.requestAt });
  }

  private answer(request: Request): Promise<void> {
    return this.answerWith(request, async () => this.handler.refusal(request) ?? (await this.execute(request)));
  }

  /** Hands a request on while its body comes. */
  private upload(request: Request, reader: RequestReader): Promise<void> {
    return this.answerWith(request, async () => {
      if (!this.handler.upload) return plain(413, { close: true });
      const length = Number(request.headers.get("content-length") ?? 0);
      const kept = this.handler.mayRepeat(request) && request.head.length + length <= this.port.keeps;
      if (!kept) {
        this.keepNoLonger(request);
        await this.port.recorded();
        if (this.over) return plain(502, { close: true });
      } else this.port.took(this.seen);
      const uploading = new Uploading(reader, this.handler.upload(this.asked(request)), () => this.feed(work));
      const work: Uploads = { kind: "uploading", request, uploading, kept };
      this.work = work;
      this.feed(work);
      const answer = await uploading.answer;
      if (!answer.close) this.freeReader();
      return answer;
    });
  }

  /** Gives the upload what it takes. Where that is not kept it is used up: it need not be in a record, and is acknowledged. */
  private feed(work: Uploads): void {
    const { uploading } = work;
    const before = this.seen;
    while (!this.over && uploading.takes) {
      const chunk = this.waiting.shift();
      if (!chunk) break;
      const used = uploading.feed(chunk);
      this.seen += used;
      if (used < chunk.length) this.waiting.unshift(chunk.subarray(used));
    }
    if (this.over) return;
    if (this.seen > before) this.passed(work);
    if (this.inputEnded && this.waiting.length === 0) uploading.inputEnd(this.incomplete);
  }

  private passed(work: Uploads): void {
    if (work.kept && this.seen - this.requestAt > this.port.keeps) {
      work.kept = false;
      this.keepNoLonger(work.request);
    } else if (work.kept) this.port.took(this.seen);
    else this.port.processed(this.seen);
    if (!work.kept) void this.port.recorded();
  }

  letGo(): void {
    if (this.work?.kind !== "uploading" || !this.work.kept) return;
    this.work.kept = false;
    this.keepNoLonger(this.work.request);
    void this.port.recorded();
  }

  private keepNoLonger(request: Request): void {
    this.unkept = request.head;
    this.port.processed(this.seen);
    this.expose(request, UNKEPT);
  }

  private async answerWith(request: Request, answering: () => Promise<Answer>): Promise<void> {
    this.work = { kind: "executing", request };
    let answer: Answer;
    try {
      answer = await answering();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      answer = plain(code === "EMFILE" || code === "ENFILE" ? 503 : 500, { close: true });
    }
    this.work = undefined;
    this.begun = false;
    const isExposed = this.unkept.length > 0;
    this.unkept = Buffer.alloc(0);
    if (this.over || this.port.ended()) {
      answer.object?.found.file.close();
      answer.made?.stop();
      return;
    }
    this.promise(answer, request, isExposed);
    this.advance();
  }

  /**
   * A request that may not be executed twice is in the record as begun before it is: whoever finds it so, and no answer, does not know
   * what came of it, and says so.
   */
  private async execute(request: Request): Promise<Answer> {
    if (!this.handler.mayRepeat(request)) {
      if (this.begun) return plain(502, { close: false });
      this.begun = true;
      await this.port.recorded();
      if (this.over) return plain(502, { close: true });
    }
    return this.handler.answer(this.asked(request));
  }

  /** Input behind our FIN is of no use. */
  private discard(): void {
    this.waiting = [];
    this.freeReader();
    this.seen = this.received;
    this.port.processed(this.received);
  }

  // ---- output ----

  /** @param isExposed that no other server could go on with it has been said of the request */
  private promise(answer: Answer, request: Request, isExposed = false): void {
    this.request = undefined;
    const { object, made } = answer;
    const { head, body, framing, keepAlive } = messageOf(answer, request, this.nowSeconds());
    const firstByteOffset = this.port.tail() + head.length;
    const response: HttpResponse = {
      requestHead: request.head,
      responseHead: head,
      objectId: object?.found.objectId ?? "",
      validator: object?.found.validator ?? "",
      firstByteSeq: this.port.sequence(firstByteOffset),
      firstByteOffset,
      objectOffset: object?.offset ?? 0,
      length: object?.length ?? body.length,
      keepAlive,
      ...(framing ? { making: nothingMade(framing, made?.length) } : {}),
    };
    this.requests++;
    this.responses.add(response);
    const pieces: ResponsePiece[] = [{ literal: Buffer.concat([head, body]) }];
    if (object) pieces.push({ object: referenceTo(response), file: object.found.file });
    this.port.respond({
      pieces,
      fin: !keepAlive && !made,
      processed: keepAlive ? this.seen : this.received,
      ...(object ? this.protection(response, object.found) : {}),
    });
    const making = this.make(response);
    if (making && making.gap !== "" && !isExposed) this.expose(request, making.gap);
    if (object?.found.pending) this.expose(request, PENDING, true);
    making?.go(made);
  }

  /** A request that is begun and may not be again is none: whoever takes over says so to its client, and goes on. */
  private expose({ method, target }: Request, reason: string, passes = false): void {
    this.port.exposed({ reason, about: { method, target: target.slice(0, TARGET_SHOWN) }, passes });
  }

  /** The rest of a response that is in the making; requests wait meanwhile. */
  private make(response: HttpResponse): Making | undefined {
    if (!response.making) return undefined;
    const { keepAlive, requestHead, responseHead } = response;
    const request = requestOf(requestHead) ?? NO_REQUEST;
    const mayRepeat = !request.hasBody && this.handler.mayRepeat(request); // a body is not kept so long
    const status = Number(/^HTTP\/1\.1 (\d+)/.exec(responseHead.toString("latin1", 0, 16))?.[1]);
    const making = new Making(
      this.port,
      response as HttpResponse & { making: MakingState },
      () => (keepAlive ? this.seen : this.received),
      mayRepeat ? () => this.handler.repeat(this.asked(request), status) : undefined,
      () => {
        this.work = undefined;
        this.advance();
      },
    );
    this.work = { kind: "making", making };
    return making;
  }

  /** For an object without a validator so far: the second commit, when there is one. */
  private protection(response: HttpResponse, { pending }: Pick<Entity, "pending">): Partial<Response> {
    if (!pending) return {};
    const protect = pending.then((validator) => {
      response.validator = validator;
      return referenceTo(response);
    });
    protect.catch(() => {
      if (this.over || !this.port.holds(response.firstByteOffset)) return;
      this.expose(requestOf(response.requestHead) ?? NO_REQUEST, NO_DIGEST);
    });
    return { unprotected: PENDING, protect };
  }

  // ---- takeover ----

  checkpoint(block: LayerSection[]): void {
    this.responses.drop();
    const { first, behindFirst } = this.responses;
    const { requests, begun, unkept } = this;
    block.push(encodeHttpSection({ requests, begun, unkept, ...(first && { current: first }), queued: behindFirst }));
  }

  unready(section: LayerSection): void {
    const { requests, begun, unkept, current, queued } = decodeHttpSection(section);
    this.requests = requests;
    this.begun = begun;
    this.unkept = unkept;
    const list = current ? [current, ...queued] : [];
    this.responses.restore(list);
    const last = list.at(-1);
    if (last) this.make(last);
  }

  gather(): Promise<void> {
    return this.work?.kind === "making" ? this.work.making.certain() : Promise.resolve();
  }

  unmovable(): string {
    if (this.work?.kind === "making") return "a response is being made that could only be made again";
    return this.begun || (this.work && !isSafe(this.work.request)) ? "a request is being executed" : "";
  }

  awaitsClient(): boolean {
    return this.work?.kind === "uploading" && this.work.uploading.takes && this.waiting.length === 0;
  }

  gap(): string {
    if (this.begun) return "a request is being executed that may not be executed again";
    if (this.unkept.length > 0) return UNKEPT;
    return this.work?.kind === "making" ? this.work.making.gap : "";
  }

  open(reference: ObjectReference, sure: boolean): Promise<OpenObject> {
    return this.handler.open(reference, this.askedFor(reference), sure);
  }

  async take(reference: ObjectReference, offset: number, fd: number): Promise<TakenObject> {
    const { file, validator, pending } = await this.handler.take(reference, fd);
    if (reference.validator !== "") return { file };
    const response = this.responses.startingAt(offset);
    if (!response) throw new RefusedError("contradictory HTTP state", `no response has its body at ${offset}`);
    return { file, ...this.protection(response, { pending: pending ?? Promise.resolve(validator) }) };
  }

  private asked(request: Request): Asked {
    return { request, client: this.port.peer.address, nowSeconds: this.nowSeconds(), gone: this.gone.signal };
  }

  private askedFor(reference: ObjectReference): Asked | undefined {
    const request = requestOf(this.responses.of(reference)?.requestHead ?? NO_REQUEST.head);
    return request && this.asked(request);
  }

  ready(position: number): void {
    this.responses.advance(position);
    if (this.work?.kind === "making") this.work.making.go();
    // Half of its body is gone.
    if (this.unkept.length > 0) {
      const request = requestOf(this.unkept) ?? NO_REQUEST;
      void this.answerWith(request, async () => plain(502, { close: true }));
    }
  }

  undo(): void {
    this.stopWork();
    this.begun = false;
    this.unkept = Buffer.alloc(0);
    this.requests = 0;
    this.responses.restore([]);
  }

  private stopWork(): void {
    if (this.work?.kind === "making") this.work.making.stop();
    if (this.work?.kind === "uploading") this.work.uploading.stop();
    this.work = undefined;
  }

  describe(position: number): ApplicationDescription {
    const response = this.responses.at(position);
    const sent = response ? Math.min(Math.max(0, position - response.firstByteOffset), response.length) : 0;
    return {
      object: response?.objectId ?? "",
      objectOffset: response?.objectId ? response.objectOffset + sent : 0,
      firstByteSequence: response?.objectId ? response.firstByteSeq : 0,
      requests: this.requests,
    };
  }

  closed(): void {
    this.over = true;
    this.stopWork();
    this.gone.abort();
    this.waiting = [];
    this.freeReader();
  }

  private freeReader(): void {
    this.reader?.free();
    this.reader = undefined;
  }

  private nowSeconds(): number {
    return Math.floor(this.nowMs() / 1000);
  }
}

/** Of a target in the log, characters. */
const TARGET_SHOWN = 200;
/** Why no other server could go on. */
const UNKEPT = "the body of its request is not kept";
const PENDING = "digest pending";
const NO_DIGEST = "its file's digest cannot be made";

const CONTINUE = Buffer.from("HTTP/1.1 100 Continue\r\n\r\n");

function referenceTo(response: HttpResponse): ObjectReference {
  const { objectId, validator, objectOffset, length } = response;
  return { objectId, validator, objectOffset, length };
}
