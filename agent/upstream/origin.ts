import { Agent, type ClientRequest, type IncomingMessage, request } from "node:http";
import { BatonError } from "../../proto/errors.js";
import { Body } from "./body.js";
import { linesOf } from "./lines.js";

/** For the head of an answer; an origin may work on it for long. */
const HEAD_MS = 60_000;
/** For a connection to the origin, which is near. */
const CONNECT_MS = 2_000;
const HEALTH_MS = 5_000; // who asks has a deadline of its own
/** Connections that are kept for the next request. */
const IDLE_MAX = 256;
const IDLE_MS = 4_000;

export interface OriginRequest {
  method: string;
  target: string;
  /** Lines in order, names as written. */
  headers: Array<[string, string]>;
  /** May be empty; the headers say its length. */
  body: Buffer;
  /** Nobody waits for the answer any more. */
  gone: AbortSignal;
}

export interface OriginResponse {
  status: number;
  reason: string;
  /** Lines in order, names as written. */
  headers: Array<[string, string]>;
  body: Body;
}

/** The origin did not answer, or not with HTTP. `status`: what a gateway says then (RFC 9110 sections 15.6.3 and 15.6.5). */
export class OriginError extends BatonError {
  constructor(
    readonly status: 502 | 504,
    message: string,
    cause?: unknown,
  ) {
    super("UPSTREAM_FAILED", message, cause);
  }
}

/** An HTTP/1.1 server behind this one, with the connections that are kept to it. */
export class Origin {
  private readonly agent = new Agent({
    keepAlive: true,
    maxFreeSockets: IDLE_MAX,
    timeout: IDLE_MS,
    scheduling: "lifo",
  });
  private troubled: () => void = () => {};
  /** What it is called where the client does not say. */
  readonly host: string;
  private readonly address: { host: string; port: number } | { socketPath: string };

  /** @param url `http://HOST:PORT` or `unix:PATH` */
  constructor(readonly url: string) {
    if (url.startsWith("unix:")) {
      this.address = { socketPath: url.slice("unix:".length) };
      this.host = "localhost";
    } else {
      const { hostname, port, host } = new URL(url);
      this.host = host;
      this.address = { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port || 80) };
    }
  }

  /**
   * Asks, once. A kept connection that had just been closed takes the request to nobody, or to somebody who never answers: it is asked
   * again then where that may be (`mayRepeat`); what may not is asked on a new connection from the beginning. Throws OriginError.
   */
  async ask(asked: OriginRequest, mayRepeat: boolean): Promise<OriginResponse> {
    for (;;) {
      const attempt = this.begin(asked, HEAD_MS, mayRepeat);
      try {
        return await attempt.response;
      } catch (error) {
        const closed = ["ECONNRESET", "EPIPE"].includes((error as NodeJS.ErrnoException).code ?? "");
        if (mayRepeat && attempt.request.reusedSocket && closed) continue;
        if (!asked.gone.aborted) this.troubled();
        if (error instanceof OriginError) throw error;
        throw new OriginError(502, `${this.url} failed: ${(error as Error).message}`, error);
      }
    }
  }

  /** Rejects, with a phrase, where it does not answer; whatever it answers is an answer. */
  async health(): Promise<void> {
    const headers: Array<[string, string]> = [["Host", "localhost"]];
    const asked = { method: "HEAD", target: "/", headers, body: Buffer.alloc(0), gone: AbortSignal.timeout(HEALTH_MS) };
    try {
      const { body } = await this.begin(asked, HEALTH_MS, true).response;
      body.none();
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      throw new Error(`its upstream ${this.url} does not answer (${error instanceof OriginError ? message : code})`);
    }
  }

  /** Calls back whenever a request has failed that somebody waits for. */
  onTrouble(listener: () => void): void {
    this.troubled = listener;
  }

  close(): void {
    this.agent.destroy();
  }

  /** Asks on a new connection, with a body that follows; its headers say its length, or that it is chunked. */
  upload(asked: OriginRequest): { request: ClientRequest; response: Promise<OriginResponse> } {
    const attempt = this.begin(asked, HEAD_MS, false, false);
    attempt.response.catch(() => {
      if (!asked.gone.aborted) this.troubled();
    });
    return attempt;
  }

  /** @param isWhole the request ends here; else the time for an answer begins at its end */
  private begin(
    { method, target, headers, body, gone }: OriginRequest,
    headMs: number,
    keptConnection: boolean,
    isWhole = true,
  ): { request: ClientRequest; response: Promise<OriginResponse> } {
    const sent = request({
      ...this.address,
      agent: keptConnection ? this.agent : false,
      method,
      path: target,
      headers: headers.flat() as unknown as Record<string, string>, // as a list they are sent as they are
      setHost: false,
    });
    // Not by the option for it, which watches the whole stream for the signal's sake.
    const stop = () => void sent.destroy(new OriginError(502, `nobody waits for ${this.url} any more`));
    if (gone.aborted) stop();
    else gone.addEventListener("abort", stop);
    const response = new Promise<OriginResponse>((resolve, reject) => {
      const late = (ms: number, what: string) =>
        setTimeout(() => sent.destroy(new OriginError(504, `${this.url} ${what} within ${ms} ms`)), ms);
      let timer = late(Math.min(CONNECT_MS, headMs), "was not connected");
      const ended = () => {
        clearTimeout(timer);
        timer = late(headMs, "did not answer");
      };
      const connected = () => {
        if (sent.writableFinished || isWhole) ended();
        else {
          clearTimeout(timer);
          sent.once("finish", ended);
        }
      };
      sent.once("socket", (socket) => {
        if (socket.connecting) socket.once("connect", connected);
        else connected();
      });
      let came: IncomingMessage | undefined;
      sent.once("response", (message: IncomingMessage) => {
        came = message;
        clearTimeout(timer);
        sent.off("finish", ended);
        const { statusCode: status = 0, statusMessage: reason = "" } = message;
        resolve({ status, reason, headers: linesOf(message.rawHeaders), body: new Body(message) });
      });
      sent.once("upgrade", (_message, socket) => {
        socket.destroy();
        reject(new OriginError(502, `${this.url} switched protocols unasked`));
      });
      sent.on("error", (error: NodeJS.ErrnoException) => {
        if (error.code === "HPE_HEADER_OVERFLOW" && came) endHere(came);
        reject(error);
      });
      sent.once("close", () => {
        clearTimeout(timer);
        gone.removeEventListener("abort", stop);
        if (!came) reject(new OriginError(502, `${this.url} closed without an answer`));
      });
    });
    if (isWhole) sent.end(body);
    return { request: sent, response };
  }
}

/** Behind its head only trailers can be too long: all of the body has come, and they may be dropped (RFC 9110 section 6.5.1). */
function endHere(message: IncomingMessage): void {
  message.complete = true;
  message.push(null);
}
