import { Llhttp } from "./llhttp.js";

/** Bounds of one request, bytes. A head larger than this is answered 431, a target 414. */
export const HEAD_MAX = 16_384;
export const TARGET_MAX = 8_192;
/** The field lines behind a body: their names, values, and this much more a line. More are answered 431. */
export const TRAILERS_MAX = 16_384;
export const LINE_REST = ": \r\n".length;
/** A request waits in the record's spool until it is answered, with a body of at most this. A larger one is handed on as it comes. */
export const BODY_MAX = 65_536;

export interface Request {
  method: string;
  /** As it was sent, Latin-1. */
  target: string;
  minorVersion: number;
  /** Names in lower case; several lines of one name are one value, joined by ", " (RFC 9110 section 5.3). */
  headers: Map<string, string>;
  /** The header lines as they came, without white space around values. */
  lines: Array<[string, string]>;
  /** The head as it was sent, its empty line included. */
  head: Buffer;
  /** What the client wants. */
  keepAlive: boolean;
  /** A body follows or may follow. */
  hasBody: boolean;
  /** Decoded; complete once the request has ended. */
  body: Buffer;
  /** It says ahead that its body is larger than what is waited for. */
  isLarge: boolean;
}

/** Stands for what could not be read as a request. */
export const NO_REQUEST: Request = {
  method: "",
  target: "",
  minorVersion: 1,
  headers: new Map(),
  lines: [],
  head: Buffer.alloc(0),
  keepAlive: false,
  hasBody: false,
  body: Buffer.alloc(0),
  isLarge: false,
};

export type Progress =
  /** The chunk is used up. */
  | { kind: "more" }
  | { kind: "head"; request: Request; taken: number }
  /** The body is larger than what is waited for. `pass` it on, or go no further. */
  | { kind: "large"; taken: number }
  /** The request ends behind the chunk's first `taken` bytes. */
  | { kind: "end"; taken: number }
  /** It is none, or none that is taken; nothing behind it can be understood. */
  | { kind: "bad"; status: number };

/** Reads one request out of chunks that are cut anywhere. */
export class RequestReader {
  private target = "";
  /** Of the head, and once that is complete, of the trailers. */
  private lines: Array<[string, string]> = [];
  private trailersLength = 0;
  private inValue = true;
  private headParts: Buffer[] = [];
  private headLength = 0;
  private headDone = false;
  private completed = false;
  private bodyLength = 0;
  private readonly bodyParts: Buffer[] = [];
  private passing = false;
  private unknownMethod = false;
  private request: Request | undefined;
  private readonly parser = new Llhttp({
    url: (part) => {
      this.target += part;
    },
    field: (part) => {
      if (this.inValue) this.beginLine();
      this.inValue = false;
      this.line[0] += part;
      this.measure(part.length);
    },
    value: (part) => {
      this.inValue = true;
      this.line[1] += part;
      this.measure(part.length);
    },
    headComplete: () => {
      this.headDone = true;
    },
    body: (part) => {
      this.bodyParts.push(part);
    },
    messageComplete: () => {
      this.completed = true;
    },
  });

  /** Whether there is more of a request than empty lines. */
  get begun(): boolean {
    return this.headDone || /[^\r\n]/.test(this.raw().toString("latin1"));
  }

  /** Goes on with the stream. After "head" call again with what is left of the chunk, also if that is nothing. */
  read(chunk: Buffer): Progress {
    if (this.unknownMethod) return this.judgeLine(chunk);
    return this.headDone ? this.readBody(chunk) : this.readHead(chunk);
  }

  /** From now on the body is not kept: `takeBody` has what came since it was last called. */
  pass(): void {
    this.passing = true;
  }

  takeBody(): Buffer {
    return Buffer.concat(this.bodyParts.splice(0));
  }

  /** The field lines behind the body, without white space around values. Right once the request has ended. */
  get trailers(): Array<[string, string]> {
    return trimmed(this.lines);
  }

  free(): void {
    this.parser.free();
  }

  private get line(): [string, string] {
    return this.lines[this.lines.length - 1] as [string, string];
  }

  private beginLine(): void {
    this.lines.push(["", ""]);
    this.measure(LINE_REST);
  }

  private measure(length: number): void {
    if (this.headDone) this.trailersLength += length;
  }

  private readHead(chunk: Buffer): Progress {
    const { stop, taken } = this.parser.execute(chunk);
    this.keep(chunk.subarray(0, taken));
    if (this.target.length > TARGET_MAX) return { kind: "bad", status: 414 };
    if (this.headLength > HEAD_MAX) return { kind: "bad", status: 431 };
    if (stop === "end") return { kind: "more" };
    if (stop === "paused") return this.completeHead(taken);
    if (stop === "method") return this.judgeLine(chunk.subarray(taken));
    this.keep(chunk.subarray(taken, taken + 1));
    const otherVersion = stop === "version" && /HTTP\/(?!1\.[01])\d+(\.\d*)?\r?$/.test(this.raw().toString("latin1"));
    return { kind: "bad", status: otherVersion ? 505 : 400 };
  }

  /** A method that the parser does not know: 501 if the line is a request's, else 400, at the first byte that says so. */
  private judgeLine(chunk: Buffer): Progress {
    this.unknownMethod = true;
    this.keep(chunk);
    const text = this.raw().toString("latin1");
    const line = /^[\r\n]*([^\r\n]*)\r\n/.exec(text)?.[1];
    if (line !== undefined) {
      return { kind: "bad", status: /^[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP\/1\.[01]$/.test(line) ? 501 : 400 };
    }
    const plausible = /^[\r\n]*[ -~]*\r?$/.test(text) && this.headLength <= TARGET_MAX;
    return plausible ? { kind: "more" } : { kind: "bad", status: 400 };
  }

  private keep(part: Buffer): void {
    this.headLength += part.length;
    this.headParts.push(part);
  }

  private raw(): Buffer {
    return Buffer.concat(this.headParts);
  }

  private completeHead(taken: number): Progress {
    const { major, minor } = this.parser.version;
    if (major !== 1) return { kind: "bad", status: 505 };
    const headers = new Map<string, string>();
    const lines = trimmed(this.lines);
    this.lines = [];
    let hosts = 0;
    for (const [name, value] of lines) {
      const key = name.toLowerCase();
      if (key === "host") hosts++;
      const present = headers.get(key);
      headers.set(key, present === undefined ? value : `${present}, ${value}`);
    }
    // RFC 9112 section 3.2.
    if (hosts > 1 || (hosts === 0 && minor > 0)) return { kind: "bad", status: 400 };
    const head = this.raw();
    this.headParts = [];
    let start = 0;
    while (head[start] === 13 || head[start] === 10) start++; // empty lines before a request (RFC 9112 section 2.2)
    // The parser also speaks RTSP and ICE.
    if (!/^[^\r]* HTTP\/1\.[01]\r/.test(head.toString("latin1", start))) return { kind: "bad", status: 400 };
    // What is coded for its transfer in another way cannot be handed on, nor measured.
    if (!/^(chunked)?$/i.test(headers.get("transfer-encoding") ?? "")) return { kind: "bad", status: 501 };
    // RFC 3986 section 3.2: what else there may be would mean something in the header fields that it goes into.
    if (!/^[\w.~!$&'()*+,;=:%[\]-]*$/.test(headers.get("host") ?? "")) return { kind: "bad", status: 400 };
    const length = Number(headers.get("content-length") ?? 0);
    const request: Request = {
      method: this.parser.method,
      target: this.target,
      minorVersion: minor,
      headers,
      lines,
      head: head.subarray(start),
      // Who sends that does not know what it says (RFC 9112 section 6.1).
      keepAlive: this.parser.keepAlive && !(minor === 0 && headers.has("transfer-encoding")),
      hasBody: length > 0 || headers.has("transfer-encoding"),
      body: Buffer.alloc(0),
      isLarge: length > BODY_MAX,
    };
    this.request = request;
    return { kind: "head", request, taken };
  }

  private readBody(chunk: Buffer): Progress {
    const { stop, taken } = this.parser.execute(chunk);
    if (this.trailersLength > TRAILERS_MAX) return { kind: "bad", status: 431 };
    if (this.completed) {
      if (this.request && !this.passing) this.request.body = this.takeBody();
      return { kind: "end", taken };
    }
    this.bodyLength += taken;
    if (stop === "end" && !this.passing && this.bodyLength > BODY_MAX) return { kind: "large", taken };
    return stop === "end" ? { kind: "more" } : { kind: "bad", status: 400 };
  }
}

function trimmed(lines: ReadonlyArray<[string, string]>): Array<[string, string]> {
  return lines.map(([name, value]) => [name, value.replace(/[ \t]+$/, "")]);
}

/** A request's head that was one before. undefined where it is none. */
export function requestOf(head: Buffer): Request | undefined {
  const reader = new RequestReader();
  try {
    const progress = reader.read(head);
    return progress.kind === "head" ? progress.request : undefined;
  } finally {
    reader.free();
  }
}

/** Asking changes nothing (RFC 9110 section 9.2.1). */
export function isSafe({ method }: Pick<Request, "method">): boolean {
  return method === "GET" || method === "HEAD" || method === "OPTIONS";
}
