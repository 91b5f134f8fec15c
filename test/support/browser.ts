import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { within } from "../../proto/deadline.js";
import { closeWithTest } from "./cleanup.js";
import { spawnOn } from "./host.js";

const CALL_MS = 20_000;

interface Message {
  id?: number;
  sessionId?: string;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { message: string };
}

/** What the page's network log says of one request. */
export interface Fetch {
  url: string;
  /** Seconds on the browser's own clock. */
  begun: number;
  ended?: number;
  /** The range that it asked for, if any. */
  range?: string;
  /** The browser's own number of the connection. */
  connection?: number;
  status?: number;
  /** Why it failed; undefined: it did not. */
  failure?: string;
}

/** Debian's Chromium in the client's namespace with one page, spoken to by the DevTools protocol over a pair of pipes. */
export class Browser {
  /** By the browser's own id of the request. */
  readonly fetches = new Map<string, Fetch>();
  readonly #profile = mkdtempSync(join(tmpdir(), "baton-browser-"));
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #waiting = new Map<number, { resolve: (result: never) => void; reject: (error: Error) => void }>();
  #parsed = () => {};
  #session: string | undefined;
  #number = 0;
  #stderr = "";

  private constructor() {
    const command = [
      ...["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
      ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
      ...["--autoplay-policy=no-user-gesture-required", `--user-data-dir=${this.#profile}`],
      ...["--remote-debugging-pipe", "about:blank"],
    ];
    // A group of its own: the browser is many processes.
    this.#child = spawnOn("client", command, { stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"], detached: true });
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-4096);
    });
    this.#ended = new Promise((resolve) => this.#child.once("close", () => resolve()));
    void this.#ended.then(() => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the browser has ended: ${this.#stderr}`));
    });
    for (const pipe of [3, 4]) this.#child.stdio[pipe]!.on("error", () => {}); // its end says more
    this.#read(this.#child.stdio[4] as Readable);
    closeWithTest(this);
  }

  static async start(): Promise<Browser> {
    const browser = new Browser();
    const { targetInfos } = await browser.#call<{ targetInfos: Array<{ type: string; targetId: string }> }>(
      "Target.getTargets",
    );
    const { targetId } = targetInfos.find(({ type }) => type === "page")!;
    const { sessionId } = await browser.#call<{ sessionId: string }>("Target.attachToTarget", {
      targetId,
      flatten: true,
    });
    browser.#session = sessionId;
    for (const domain of ["Network", "Page"]) await browser.#call(`${domain}.enable`);
    return browser;
  }

  /** Resolves when the page is parsed and its scripts have run. */
  async open(url: string): Promise<void> {
    const parsed = new Promise<void>((resolve) => {
      this.#parsed = resolve;
    });
    await this.#call("Page.navigate", { url });
    await within(CALL_MS, parsed, () => new Error(`${url} is not there within ${CALL_MS} ms`));
  }

  /** What an expression of the page, or the promise that it is, comes to; rejects with what the page throws. */
  async evaluate<T>(expression: string, timeoutMs = CALL_MS): Promise<T> {
    const wish = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.#call<{
      result: { value: T };
      exceptionDetails?: { text: string; exception?: { description?: string } };
    }>("Runtime.evaluate", wish, timeoutMs);
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Ends it in good order, so that nothing is left of it. */
  async stop(): Promise<void> {
    this.#session = undefined;
    await this.#call("Browser.close").catch(() => {}); // its end may come before its answer
    await within(CALL_MS, this.#ended, () => new Error("the browser does not end"));
    this.close();
  }

  close(): void {
    try {
      process.kill(-this.#child.pid!, "SIGKILL");
    } catch {
      // All of it has ended.
    }
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  #call<T>(method: string, params: object = {}, timeoutMs = CALL_MS): Promise<T> {
    const id = ++this.#number;
    const answer = new Promise<T>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    const message = { id, method, params, ...(this.#session ? { sessionId: this.#session } : {}) };
    (this.#child.stdio[3] as Writable).write(`${JSON.stringify(message)}\0`);
    return within(timeoutMs, answer, () => new Error(`no answer to ${method} within ${timeoutMs} ms: ${this.#stderr}`));
  }

  #read(pipe: Readable): void {
    let rest = "";
    pipe.setEncoding("utf8").on("data", (text: string) => {
      const messages = (rest + text).split("\0");
      rest = messages.pop()!;
      for (const message of messages) this.#take(JSON.parse(message) as Message);
    });
  }

  #take({ id, method, params, result, error }: Message): void {
    if (id !== undefined) {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) waiting?.reject(new Error(error.message));
      else waiting?.resolve(result as never);
    } else if (method === "Page.domContentEventFired") this.#parsed();
    else if (method?.startsWith("Network.")) this.#note(method, params as unknown as NetworkEvent);
  }

  #note(method: string, { requestId, timestamp, request, response, errorText }: NetworkEvent): void {
    if (request) this.fetches.set(requestId, { url: request.url, begun: timestamp, ...rangeOf(request.headers) });
    const fetch = this.fetches.get(requestId);
    if (!fetch) return;
    if (method === "Network.responseReceived") {
      fetch.connection = response!.connectionId;
      fetch.status = response!.status;
    }
    if (method === "Network.loadingFinished" || method === "Network.loadingFailed") fetch.ended = timestamp;
    if (method === "Network.loadingFailed") fetch.failure = errorText!;
  }
}

const rangeOf = ({ Range: range }: Record<string, string>) => (range === undefined ? {} : { range });

interface NetworkEvent {
  requestId: string;
  timestamp: number;
  request?: { url: string; headers: Record<string, string> };
  response?: { status: number; connectionId: number };
  errorText?: string;
}
