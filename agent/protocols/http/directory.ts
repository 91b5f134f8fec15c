import mime from "mime";
import { RefusedError } from "../../../proto/errors.js";
import type { ObjectReference } from "../../../proto/record.js";
import type { DirectoryContent, Found } from "../../content/index.js";
import type { OpenObject } from "../application.js";
import { type Answer, type Entity, type MadeBody, plain } from "./answer.js";
import { preconditions, type Representation, rangeApplies } from "./conditional.js";
import { formatDate } from "./date.js";
import type { Asked, Handler } from "./handler.js";
import { parseRange } from "./range.js";
import type { Request } from "./request.js";
import { directoryTarget, targetPath } from "./target.js";

/** Serves the files of a directory to GET and HEAD. */
export class DirectoryHandler implements Handler {
  constructor(private readonly content: DirectoryContent) {}

  refusal(request: Request): Answer | undefined {
    return refusal(request);
  }

  mayRepeat(): boolean {
    return true;
  }

  /** Rejects only with unexpected errors (EMFILE, EIO, ...). */
  answer({ request, nowSeconds }: Asked): Promise<Answer> {
    return answerFrom(this.content, request, nowSeconds);
  }

  repeat(): Promise<MadeBody> {
    return Promise.reject(new RefusedError("contradictory HTTP state", "a directory makes no responses"));
  }

  open(reference: ObjectReference): Promise<OpenObject> {
    return this.content.openObject(reference);
  }

  take({ objectId }: ObjectReference, fd: number): Promise<Entity> {
    return this.content.takeObject(objectId, fd);
  }
}

function refusal(request: Request): Answer | undefined {
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

async function answerFrom(content: DirectoryContent, request: Request, nowSeconds: number): Promise<Answer> {
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
