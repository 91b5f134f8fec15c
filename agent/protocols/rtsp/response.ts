import { BatonError } from "../../../proto/errors.js";
import { formatDate } from "../http/date.js";

/** RFC 2326 section 7.1.1. */
export const REASONS = {
  100: "Continue",
  200: "OK",
  201: "Created",
  250: "Low on Storage Space",
  300: "Multiple Choices",
  301: "Moved Permanently",
  302: "Moved Temporarily",
  303: "See Other",
  304: "Not Modified",
  305: "Use Proxy",
  400: "Bad Request",
  401: "Unauthorized",
  402: "Payment Required",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  406: "Not Acceptable",
  407: "Proxy Authentication Required",
  408: "Request Time-out",
  410: "Gone",
  411: "Length Required",
  412: "Precondition Failed",
  413: "Request Entity Too Large",
  414: "Request-URI Too Large",
  415: "Unsupported Media Type",
  451: "Parameter Not Understood",
  452: "Conference Not Found",
  453: "Not Enough Bandwidth",
  454: "Session Not Found",
  455: "Method Not Valid in This State",
  456: "Header Field Not Valid for Resource",
  457: "Invalid Range",
  458: "Parameter Is Read-Only",
  459: "Aggregate operation not allowed",
  460: "Only aggregate operation allowed",
  461: "Unsupported transport",
  462: "Destination unreachable",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Time-out",
  505: "RTSP Version not supported",
  551: "Option not supported",
} as const;

export type Status = keyof typeof REASONS;

export interface Response {
  status: Status;
  /** Of the request; undefined: it had none that could be read. */
  cseq: number | undefined;
  session?: Session;
  /** In this order, behind CSeq, Date and Session. */
  headers?: ReadonlyArray<readonly [string, string]>;
  body?: Buffer;
}

/** RFC 2326 section 12.37. */
export interface Session {
  /** At least 8 letters, digits or "$-_.+". */
  id: string;
  timeoutSeconds: number;
}

/**
 * A response as it is sent, a pure function. Content-Length is added where there is a body.
 * Throws BatonError INTERNAL where a header would not stay on its line.
 */
export function responseBytes({ status, cseq, session, headers, body }: Response, nowSeconds: number): Buffer {
  const fields: Array<readonly [string, string]> = [];
  if (cseq !== undefined) fields.push(["CSeq", String(cseq)]);
  fields.push(["Date", formatDate(nowSeconds)]);
  if (session) fields.push(["Session", `${session.id};timeout=${session.timeoutSeconds}`]);
  if (headers) fields.push(...headers);
  if (body && body.length > 0) fields.push(["Content-Length", String(body.length)]);
  const lines = fields.map(([name, value]) => {
    if (/[\r\n\0]/.test(name + value)) throw new BatonError("INTERNAL", `header ${name} has a line's end in its value`);
    return `${name}: ${value}\r\n`;
  });
  const head = Buffer.from(`RTSP/1.0 ${status} ${REASONS[status]}\r\n${lines.join("")}\r\n`, "latin1");
  return body ? Buffer.concat([head, body]) : head;
}

/** The id in a request's Session header; what stands behind it is left out. undefined: it is none. */
export function sessionId(header: string): string | undefined {
  return /^([\w$.+-]{1,128})[ \t]*(;.*)?$/.exec(header)?.[1];
}
