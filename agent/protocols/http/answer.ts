import type { Framing } from "../../../proto/sections.js";
import type { OpenObject } from "../application.js";
import { formatDate } from "./date.js";
import type { Request } from "./request.js";

/** An answer before it has an offset: the head without Date and Connection, and what follows it. */
export interface Answer {
  status: number;
  /** Where it is another one than the status' own. */
  reason?: string;
  headers: Array<[string, string]>;
  /** Sent unless the request was HEAD; coded as the headers say. */
  body: Buffer;
  /** In `body`'s place: a part of an object. Whoever gets the answer closes its file. */
  object?: { found: Entity; offset: number; length: number };
  /** In `body`'s place: one that is sent while it is made. */
  made?: MadeBody;
  /** The connection ends with this answer, whatever the client wants. */
  close: boolean;
}

/** A body in the making. */
export interface MadeBody {
  /** Bytes, where they are known ahead. */
  length?: number;
  /** In order, as they come. Rejects where it breaks off. */
  parts: AsyncIterator<Buffer, void>;
  /** The field lines behind it, for a client that gets it in chunks; known once all parts have come. Missing: none. */
  trailers?(): Array<[string, string]>;
  /** Nobody wants the rest. */
  stop(): void;
}

/** An object that was found for a request. */
export interface Entity {
  /** Names it in records. */
  objectId: string;
  file: OpenObject;
  /** Strong; "" while there is none. */
  validator: string;
  /** While there is none: the one to come. Rejects with a BatonError. */
  pending?: Promise<string>;
}

const REASONS: Record<number, string> = {
  200: "OK",
  206: "Partial Content",
  301: "Moved Permanently",
  304: "Not Modified",
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  412: "Precondition Failed",
  413: "Content Too Large",
  414: "URI Too Long",
  416: "Range Not Satisfiable",
  417: "Expectation Failed",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
};

/** An answer that says its status in words. */
export function plain(status: number, options: { close: boolean; headers?: Array<[string, string]> }): Answer {
  const body = Buffer.from(`${status} ${REASONS[status]}\n`);
  const headers: Array<[string, string]> = [
    ["Content-Type", "text/plain"],
    ["Content-Length", String(body.length)],
    ...(options.headers ?? []),
  ];
  return { status, headers, body, close: options.close };
}

/** An answer as one client gets it. */
export interface Message {
  head: Buffer;
  /** What of the body is known ahead. */
  body: Buffer;
  /** How the client will know where a body ends that is made while it is sent. */
  framing?: Framing;
  /** The connection goes on behind it. */
  keepAlive: boolean;
}

export function messageOf(answer: Answer, request: Request, nowSeconds: number): Message {
  const { made } = answer;
  const framing = made && framingOf(made, request);
  const keepAlive = request.keepAlive && !answer.close && framing !== "close";
  const persistence = keepAlive ? (request.minorVersion === 0 ? "keep-alive" : undefined) : "close";
  const headers = [...answer.headers];
  if (framing === "chunked") headers.push(["Transfer-Encoding", "chunked"]);
  if (framing === "length") headers.push(["Content-Length", String(made?.length)]);
  return {
    head: headBytes({ ...answer, headers }, persistence, nowSeconds),
    body: request.method === "HEAD" ? Buffer.alloc(0) : answer.body,
    ...(framing ? { framing } : {}),
    keepAlive,
  };
}

/** RFC 9112 section 6.3. */
function framingOf({ length }: MadeBody, { minorVersion }: Request): Framing {
  if (length !== undefined) return "length";
  return minorVersion > 0 ? "chunked" : "close";
}

function headBytes(answer: Answer, connection: "close" | "keep-alive" | undefined, nowSeconds: number): Buffer {
  const lines = [`HTTP/1.1 ${answer.status} ${answer.reason ?? REASONS[answer.status]}`];
  // An origin's own Date stays (RFC 9110 section 6.6.1).
  if (!answer.headers.some(([name]) => name.toLowerCase() === "date")) lines.push(`Date: ${formatDate(nowSeconds)}`);
  for (const [name, value] of answer.headers) lines.push(`${name}: ${value}`);
  if (connection) lines.push(`Connection: ${connection}`);
  return Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
}
