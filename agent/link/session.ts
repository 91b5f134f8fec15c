import { type ClientDuplexStream, Metadata } from "@grpc/grpc-js";
import { logger } from "../../proto/log.js";
import {
  type AgentLinkClient,
  type AgentMessage,
  agentLinkClient,
  type ControllerMessage,
} from "../../proto/rpc/index.js";

const log = logger("link");

/** Milliseconds between attempts: short at first, so that a restarted controller has its agents at once. */
const backoffMinMs = 20;
const backoffMaxMs = 500;
/** For a controller to take the stream. A stopped one takes connections and says nothing. */
const connectMs = 1000;

export interface SessionHandlers {
  /** The stream is there: say hello. */
  open(): void;
  message(message: ControllerMessage): void;
  closed(reason: string): void;
}

/** One stream to one controller, made again whenever it breaks, until close(). */
export class Session {
  readonly #target: string;
  readonly #handlers: SessionHandlers;
  #client: AgentLinkClient | undefined;
  #stream: ClientDuplexStream<AgentMessage, ControllerMessage> | undefined;
  #open = false;
  #closed = false;
  #backoffMs = backoffMinMs;
  #timer: NodeJS.Timeout | undefined;

  constructor(target: string, handlers: SessionHandlers) {
    this.#target = target;
    this.#handlers = handlers;
  }

  get open(): boolean {
    return this.#open;
  }

  connect(): void {
    // A new channel each time: an old one would wait for its own backoff, or for a SYN that was lost while the link was cut.
    const client = agentLinkClient(this.#target, { "grpc.use_local_subchannel_pool": 1 });
    const stream = client.session(new Metadata({ waitForReady: true }));
    this.#client = client;
    this.#stream = stream;
    this.#timer = setTimeout(() => this.#lost(stream, "no answer"), connectMs);
    stream.on("metadata", () => {
      if (this.#stream !== stream) return;
      clearTimeout(this.#timer);
      this.#open = true;
      this.#backoffMs = backoffMinMs;
      log.info({ controller: this.#target }, "connected to the controller");
      this.#handlers.open();
    });
    stream.on("data", (message: ControllerMessage) => {
      if (this.#stream === stream) this.#handlers.message(message);
    });
    stream.on("error", (error: Error) => this.#lost(stream, error.message));
    stream.on("end", () => this.#lost(stream, "ended by the controller"));
  }

  /** Whether it went out. */
  send(message: AgentMessage): boolean {
    if (!this.#open) return false;
    this.#stream?.write(message);
    return true;
  }

  /** Says the last word and ends; nothing is connected again. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#open = false;
    const client = this.#client;
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.once("status", () => client?.close());
    stream?.end();
    setTimeout(() => {
      stream?.cancel();
      client?.close();
    }, 200).unref();
  }

  #lost(stream: ClientDuplexStream<AgentMessage, ControllerMessage>, reason: string): void {
    if (this.#stream !== stream) return;
    clearTimeout(this.#timer);
    this.#stream = undefined;
    stream.cancel();
    this.#client?.close();
    if (this.#open) {
      this.#open = false;
      log.warn({ controller: this.#target, reason }, "connection to the controller lost");
      this.#handlers.closed(reason);
    }
    if (this.#closed) return;
    this.#timer = setTimeout(() => this.connect(), this.#backoffMs);
    this.#backoffMs = Math.min(this.#backoffMs * 2, backoffMaxMs);
  }
}
