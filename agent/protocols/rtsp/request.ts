/** Bounds of one message, bytes. A longer request line is answered 414, a larger head or body 413. */
export const LINE_MAX = 4_096;
export const HEAD_MAX = 16_384;
export const BODY_MAX = 65_536;
/** Bytes of an interleaved frame ahead of its data: "$", channel, length. */
export const FRAME_HEADER = 4;

export interface Request {
  method: string;
  /** As it was sent. */
  target: string;
  /** Names in lower case; several lines of one name are one value, joined by ", " (RFC 2326 section 15.1, RFC 2068 section 4.2). */
  headers: Map<string, string>;
  cseq: number;
  body: Buffer;
}

/** What the stream brings next. `end`: the client's stream offset behind it; all below needs never be seen again. */
export type Message =
  | { kind: "request"; request: Request; end: number }
  /** RFC 2326 section 10.12: RTCP as a rule. */
  | { kind: "frame"; channel: number; data: Buffer; end: number }
  /** The client's answer to a request of ours. */
  | { kind: "response"; status: number; end: number }
  /** Nothing behind it can be understood: answer, and end. `cseq` where it could be read. */
  | { kind: "bad"; status: 400 | 413 | 414 | 501 | 505; cseq: number | undefined };

const DOLLAR = 0x24;
const CR = 13;
const LF = 10;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const REQUEST_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) RTSP\/(\d+\.\d+)$/;
const STATUS_LINE = /^RTSP\/1\.0 (\d{3})( [^\0]*)?$/;
const NOTHING = Buffer.alloc(0);

/** What a head says: the message but for its body, whose length it has. */
type Head = { bodyLength: number } & ({ request: Request } | { responseStatus: number });

/**
 * Cuts a client's stream into RTSP/1.0 requests (RFC 2326 section 6) and interleaved frames. The chunks may be cut anywhere. All its
 * state are the bytes behind the last message: another one that begins at its `end` and is given the stream from there goes on with
 * the same.
 */
export class MessageReader {
  private buffer: Buffer = NOTHING;
  private head: { parsed: Head; length: number } | undefined;
  /** Of the buffer: no head ends before. */
  private searched = 0;
  private failed = false;

  /** @param offset of the first byte that comes, in the client's stream */
  constructor(private offset: number) {}

  /** Whether there is more of a message than empty lines. */
  get begun(): boolean {
    this.skipEmptyLines();
    return this.buffer.length > 0;
  }

  /** The next bytes. Call `next` until it has no more. The chunk is kept; nobody may change it. */
  push(chunk: Buffer): void {
    if (!this.failed) this.buffer = this.buffer.length === 0 ? chunk : Buffer.concat([this.buffer, chunk]);
  }

  /** The next message; undefined: more bytes are needed, or it was "bad" before. */
  next(): Message | undefined {
    if (this.failed) return undefined;
    if (!this.head) this.skipEmptyLines();
    if (this.buffer[0] === DOLLAR && !this.head) return this.frame();
    return this.head ? this.body() : this.readHead();
  }

  private frame(): Message | undefined {
    const { buffer } = this;
    if (buffer.length < FRAME_HEADER) return undefined;
    const length = FRAME_HEADER + buffer.readUInt16BE(2);
    if (buffer.length < length) return undefined;
    const channel = buffer[1] as number;
    return { kind: "frame", channel, data: buffer.subarray(FRAME_HEADER, length), end: this.take(length) };
  }

  private readHead(): Message | undefined {
    const length = this.headLength();
    if (length === undefined || length > HEAD_MAX) {
      const line = this.buffer.indexOf(LF);
      if ((line < 0 ? this.buffer.length : line) > LINE_MAX) return this.fail({ status: 414, cseq: undefined });
      if (length === undefined && this.buffer.length <= HEAD_MAX) return undefined;
      return this.fail({ status: 413, cseq: undefined });
    }
    const text = this.buffer.toString("latin1", 0, length).trimEnd();
    const parsed = parseHead(text);
    if ("status" in parsed) return this.fail(parsed);
    this.head = { parsed, length };
    return this.body();
  }

  private body(): Message | undefined {
    const { parsed, length } = this.head as { parsed: Head; length: number };
    const total = length + parsed.bodyLength;
    if (this.buffer.length < total) return undefined;
    const body = this.buffer.subarray(length, total);
    this.head = undefined;
    const end = this.take(total);
    if ("responseStatus" in parsed) return { kind: "response", status: parsed.responseStatus, end };
    return { kind: "request", request: { ...parsed.request, body }, end };
  }

  /** Up to and with the empty line; lines end with CRLF, or LF alone (RFC 2326 section 4, "robustness"). undefined: not there yet. */
  private headLength(): number | undefined {
    const { buffer } = this;
    for (let at = buffer.indexOf(LF, this.searched); at >= 0; at = buffer.indexOf(LF, at + 1)) {
      this.searched = at;
      const next = buffer[at + 1] === CR ? at + 2 : at + 1;
      if (buffer[next] === LF) return next + 1;
      if (next >= buffer.length) return undefined;
    }
    this.searched = buffer.length;
    return undefined;
  }

  private skipEmptyLines(): void {
    if (this.head) return;
    let count = 0;
    while (this.buffer[count] === CR || this.buffer[count] === LF) count++;
    if (count > 0) this.take(count);
  }

  private take(length: number): number {
    this.buffer = this.buffer.subarray(length);
    this.searched = 0;
    this.offset += length;
    return this.offset;
  }

  private fail(why: Failure): Message {
    this.failed = true;
    this.buffer = NOTHING;
    return { kind: "bad", ...why };
  }
}

type Failure = Omit<Extract<Message, { kind: "bad" }>, "kind">;

function parseHead(text: string): Head | Failure {
  // A line that begins with white space goes on with the one before.
  const [first = "", ...lines] = text.replace(/\r?\n[ \t]+/g, " ").split(/\r?\n/);
  const headers = new Map<string, string>();
  let cseq: number | undefined;
  const bad = (status: Failure["status"]): Failure => ({ status, cseq });
  for (const line of lines) {
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(0, colon)).trimEnd().toLowerCase();
    const value = line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, "");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    if (!TOKEN.test(name) || /[\0-\x08\x0a-\x1f\x7f]/.test(value)) return bad(400);
    const present = headers.get(name);
    headers.set(name, present === undefined ? value : `${present}, ${value}`);
  }
  const number = headers.get("cseq") ?? "";
  if (/^\d{1,10}$/.test(number)) cseq = Number(number);
  // There is no such thing in RTSP: who sends it means another length than we would.
  if (headers.has("transfer-encoding")) return bad(501);
  const length = headers.get("content-length") ?? "0";
  if (!/^\d{1,15}$/.test(length)) return bad(400);
  if (Number(length) > BODY_MAX) return bad(413);
  const bodyLength = Number(length);
  const status = STATUS_LINE.exec(first);
  if (status) return { bodyLength, responseStatus: Number(status[1]) };
  const [, method, target, version] = REQUEST_LINE.exec(first) ?? [];
  if (method === undefined || target === undefined) return bad(first.length > LINE_MAX ? 414 : 400);
  if (version !== "1.0") return bad(505);
  if (first.length > LINE_MAX) return bad(414);
  // RFC 2326 section 12.17.
  if (cseq === undefined) return bad(400);
  return { bodyLength, request: { method, target, headers, cseq, body: NOTHING } };
}
