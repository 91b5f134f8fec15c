import mime from "mime";
import type { DirectoryContent, Found } from "../../content/index.js";
import { preconditions, type Representation, rangeApplies } from "./conditional.js";
import { formatDate } from "./date.js";
import { parseRange } from "./range.js";
import type { Request } from "./request.js";
import { directoryTarget, targetPath } from "./target.js";

/** An answer before it has an offset: the head without Date and Connection, and what follows it. */
export interface Answer {
  status: number;
  headers: Array<[string, string]>;
  /** Sent unless the request was HEAD. */
  body: Buffer;
  /** In `body`'s place: a part of a file. Whoever gets the answer closes the file. */
  object?: { found: Found; offset: number; length: number };
  /** The connection ends with this answer, whatever the client wants. */
  close: boolean;
}

const REASONS: Record<number, string> = {
  200: "OK",
  206: "Partial Content",
  301: "Moved Permanently",
  304: "Not Modified",
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  412: "Precondition Failed",
  413: "Content Too Large",
  414: "URI Too Long",
  416: "Range Not Satisfiable",
  417: "Expectation Failed",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  503: "Service Unavailable",
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

/** What can be said of a request by its head alone: that it is not served. Undefined: read on. */
export function refusal(request: Request): Answer | undefined {
  if (request.method !== "GET" && request.method !== "HEAD") {
    // A body that nobody wants need not be read. CONNECT has no way to go on.
    const close = request.hasBody || request.method === "CONNECT";
    return plain(405, { close, headers: [["Allow", "GET, HEAD"]] });
  }
  const expect = request.headers.get("expect");
  if (expect !== undefined && (request.hasBody || expect.toLowerCase() !== "100-continue")) {
    return plain(417, { close: request.hasBody }); // RFC 9110 section 10.1.1
  }
  return undefined;
}

/** Answers a GET or HEAD from the directory. Rejects only with unexpected errors (EMFILE, EIO, ...). */
export async function answerFrom(content: DirectoryContent, request: Request, nowSeconds: number): Promise<Answer> {
  const path = targetPath(request.target);
  if (!path) return plain(400, { close: false });
  const found = await content.find(path.segments, path.trailingSlash);
  if (found === undefined) return plain(404, { close: false });
  if (found === "directory") return plain(301, { close: false, headers: [["Location", directoryTarget(path)]] });
  const answer = answerWith(found, request, nowSeconds);
  if (!answer.object || request.method === "HEAD") {
    found.file.close();
    delete answer.object;
  }
  return answer;
}

function answerWith(found: Found, { method, headers }: Request, nowSeconds: number): Answer {
  const { size } = found.file;
  const present = representation(found, nowSeconds);
  const validators: Array<[string, string]> = [
    ["Last-Modified", formatDate(present.lastModified)],
    ["ETag", present.etag],
  ];
  const precondition = preconditions(headers, present, nowSeconds);
  if (precondition === 412) return plain(412, { close: false });
  if (precondition === 304) return { status: 304, headers: validators, body: Buffer.alloc(0), close: false };

  const ranged = method === "GET" && rangeApplies(headers, present, nowSeconds);
  const range = ranged ? parseRange(headers.get("range"), size) : "whole";
  if (range === "unsatisfiable") {
    return plain(416, {
      close: false,
      headers: [
        ["Content-Range", `bytes */${size}`],
        ["Accept-Ranges", "bytes"],
      ],
    });
  }
  const { offset, length } = range === "whole" ? { offset: 0, length: size } : range;
  return {
    status: range === "whole" ? 200 : 206,
    headers: [
      ["Content-Type", mime.getType(found.objectId) ?? "application/octet-stream"],
      ["Content-Length", String(length)],
      ...(range === "whole"
        ? []
        : [["Content-Range", `bytes ${offset}-${offset + length - 1}/${size}`] as [string, string]]),
      ...validators,
      ["Accept-Ranges", "bytes"],
    ],
    body: Buffer.alloc(0),
    ...(length > 0 ? { object: { found, offset, length } } : {}),
    close: false,
  };
}

/** The client's validators; of no concern to takeovers, where other servers' files may have other times. */
function representation({ file }: Found, nowSeconds: number): Representation {
  const { mtimeNs } = file.identity;
  return {
    etag: `"${file.size.toString(16)}-${mtimeNs.toString(16)}"`,
    // Never later than Date (RFC 9110 section 8.8.2.1).
    lastModified: Math.min(Number(mtimeNs / 1_000_000_000n), nowSeconds),
  };
}

/** The head's bytes. */
export function headBytes(answer: Answer, connection: "close" | "keep-alive" | undefined, nowSeconds: number): Buffer {
  const lines = [`HTTP/1.1 ${answer.status} ${REASONS[answer.status]}`, `Date: ${formatDate(nowSeconds)}`];
  for (const [name, value] of answer.headers) lines.push(`${name}: ${value}`);
  if (connection) lines.push(`Connection: ${connection}`);
  return Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
}
