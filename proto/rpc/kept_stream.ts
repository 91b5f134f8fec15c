import type { Client, ClientDuplexStream } from "@grpc/grpc-js";
import { logger } from "../log.js";

const log = logger("link");

/** Milliseconds between attempts: short at first, so that a restarted peer is there at once. */
const backoffMinMs = 20;
const backoffMaxMs = 500;
/** For a peer to take the stream. A stopped one takes connections and says nothing. */
const connectMs = 1000;

export interface KeptStreamHandlers<In> {
  /** The stream is there. */
  open(): void;
  message(message: In): void;
  closed(reason: string): void;
}

/** A channel of its own and the stream on it, asked to wait until the peer is there. */
export type OpenStream<Out, In> = () => { client: Client; stream: ClientDuplexStream<Out, In> };

/** One stream to one peer, made again whenever it breaks, until close(). */
export class KeptStream<Out, In> {
  readonly #peer: string;
  readonly #start: OpenStream<Out, In>;
  readonly #handlers: KeptStreamHandlers<In>;
  #client: Client | undefined;
  #stream: ClientDuplexStream<Out, In> | undefined;
  #open = false;
  #closed = false;
  #backoffMs = backoffMinMs;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param peer for the log.
   * @param start opens a new channel each time: an old one would wait for its own backoff, or for a SYN that was lost while the
   * link was cut.
   */
  constructor(peer: string, start: OpenStream<Out, In>, handlers: KeptStreamHandlers<In>) {
    this.#peer = peer;
    this.#start = start;
    this.#handlers = handlers;
  }

  get open(): boolean {
    return this.#open;
  }

  connect(): void {
    const { client, stream } = this.#start();
    this.#client = client;
    this.#stream = stream;
    this.#timer = setTimeout(() => this.#lost(stream, "no answer"), connectMs);
    stream.on("metadata", () => {
      if (this.#stream !== stream) return;
      clearTimeout(this.#timer);
      this.#open = true;
      this.#backoffMs = backoffMinMs;
      log.info({ peer: this.#peer }, "connected");
      this.#handlers.open();
    });
    stream.on("data", (message: In) => {
      if (this.#stream === stream) this.#handlers.message(message);
    });
    stream.on("error", (error: Error) => this.#lost(stream, error.message));
    stream.on("end", () => this.#lost(stream, "ended by the peer"));
  }

  /** Whether it went out. */
  send(message: Out): boolean {
    if (!this.#open) return false;
    this.#stream?.write(message);
    return true;
  }

  /** A stream that is there stays until the peer ends it; nothing is connected again. */
  retire(): void {
    this.#closed = true;
    if (!this.#stream) clearTimeout(this.#timer);
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

  #lost(stream: ClientDuplexStream<Out, In>, reason: string): void {
    if (this.#stream !== stream) return;
    clearTimeout(this.#timer);
    this.#stream = undefined;
    stream.cancel();
    this.#client?.close();
    if (this.#open) {
      this.#open = false;
      log.warn({ peer: this.#peer, reason }, "connection lost");
      this.#handlers.closed(reason);
    }
    if (this.#closed) return;
    this.#timer = setTimeout(() => this.connect(), this.#backoffMs);
    this.#backoffMs = Math.min(this.#backoffMs * 2, backoffMaxMs);
  }
}
