import { Metadata, type ServerDuplexStream } from "@grpc/grpc-js";
import type {
  AgentHello,
  AgentMessage,
  ControllerMessage,
  DescribeAnswer,
  LoadReport,
  PrepareAnswer,
  TakeoverResult,
} from "../../proto/rpc/index.js";

export type AgentStream = ServerDuplexStream<AgentMessage, ControllerMessage>;

/** To what an agent was asked. */
export type Answer = DescribeAnswer | TakeoverResult | PrepareAnswer;

/** Batches whose numbers are remembered, to know one that is said again. */
const batchesMax = 4096;

/** One agent's stream to this controller, from its hello on. */
export class AgentSession {
  readonly connectedAt = Date.now();
  hello: AgentHello;
  load: LoadReport | undefined;
  /** Of the last report, by performance.now(). */
  loadAtMs = 0;
  readonly #stream: AgentStream;
  readonly #waiting = new Map<number, (answer: Answer | undefined) => void>();
  #open = true;

  constructor(stream: AgentStream, hello: AgentHello) {
    this.#stream = stream;
    this.hello = hello;
  }

  /** Whether it went out. A stream that is over, or that the agent does not read, takes nothing. */
  send(message: ControllerMessage): boolean {
    // 8 MiB unread: the agent is stuck, and keepalive will end the stream.
    if (!this.#open || this.#stream.writableLength > 8 * 1024 * 1024) return false;
    this.#stream.write(message);
    return true;
  }

  /** Resolves with the answer to `request`, or undefined after `timeoutMs` or at the end of the stream. */
  wait(request: number, timeoutMs: number): Promise<Answer | undefined> {
    if (!this.#open) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.answer(request, undefined), timeoutMs);
      this.#waiting.set(request, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
    });
  }

  /** Whether somebody was waiting for it. */
  answer(request: number, answer: Answer | undefined): boolean {
    const waiting = this.#waiting.get(request);
    this.#waiting.delete(request);
    waiting?.(answer);
    return waiting !== undefined;
  }

  /** Everybody who waits gets undefined. */
  close(): void {
    this.#open = false;
    for (const request of [...this.#waiting.keys()]) this.answer(request, undefined);
    this.#stream.end();
  }
}

/** How far each batch of one agent process got, so that a repeated one is acknowledged but not acted on twice. */
export class SeenBatches {
  readonly #finished = new Map<number, boolean>();

  /** False when it was begun before. */
  begin(batch: number): boolean {
    if (this.#finished.has(batch)) return false;
    this.#finished.set(batch, false);
    if (this.#finished.size > batchesMax) {
      const [oldest] = this.#finished.keys();
      if (oldest !== undefined) this.#finished.delete(oldest);
    }
    return true;
  }

  /** It was not acted on after all: said again, it is a new one. */
  fail(batch: number): void {
    this.#finished.delete(batch);
  }

  finish(batch: number): void {
    if (this.#finished.has(batch)) this.#finished.set(batch, true);
  }

  isFinished(batch: number): boolean {
    return this.#finished.get(batch) ?? false;
  }
}

/** Says at once that the stream is taken, before there is anything to tell. */
export function accept(stream: AgentStream): void {
  stream.sendMetadata(new Metadata());
}
