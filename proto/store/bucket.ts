import type { JetStreamManager } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import { BatonError } from "../errors.js";
import { ConflictError, type Present, StoreRefusal } from "./errors.js";
import type { Ack, Publisher } from "./publisher.js";
import { streamOf, subjectOf } from "./streams.js";
import { Watcher, type WatchHandlers } from "./watcher.js";

const wrongLastSequence = 10071;
const nothing: Present = { revision: 0, bytes: new Uint8Array(0), removed: false, messageId: "" };

export interface PutOptions {
  /** Unique a write; a repetition of the same write carries the same one. */
  messageId: string;
  /** Revision that the key must have: 0 = it was never written (or its tombstone is trimmed). */
  expected: number;
  remove?: boolean;
  deadlineMs?: number;
  resendMs?: number;
  /** Whether what lies there after a lost comparison is this very write, beside the message id that is compared anyway. */
  isMine?: (bytes: Uint8Array) => boolean;
}

export interface Written {
  revision: number;
  /** performance.now() at which the write was first sent. */
  sentAt: number;
}

/** What a bucket needs of the store. */
export interface BucketContext {
  connection: NatsConnection;
  manager: JetStreamManager;
  publisher: Publisher;
  /** Default of `deadlineMs`. */
  deadlineMs: number;
  /** Default of `resendMs`. */
  resendMs: number;
  watchers: Set<Watcher>;
}

/** A key-value bucket with compare-and-set alone: nothing is ever written without naming what it replaces. */
export class Bucket {
  readonly name: string;
  readonly #context: BucketContext;

  constructor(name: string, context: BucketContext) {
    this.name = name;
    this.#context = context;
  }

  /**
   * Resolves when the store has acknowledged the write. A lost comparison is looked into before it is believed: a write
   * whose acknowledgement was lost and that fell out of the duplicate window looks the same.
   * @throws ConflictError with what lies there now; BatonError STORE_UNAVAILABLE (outcome unknown), STORE_FAILED, STORE_TOO_SMALL
   * (never possible), LIMIT_REACHED.
   */
  async put(key: string, bytes: Uint8Array, options: PutOptions): Promise<Written> {
    const deadlineMs = options.deadlineMs ?? this.#context.deadlineMs;
    const startedAt = performance.now();
    let ack: Ack;
    try {
      ack = await this.#context.publisher.publish(subjectOf(this.name, key), bytes, {
        messageId: options.messageId,
        expected: options.expected,
        remove: options.remove ?? false,
        deadlineMs,
        resendMs: options.resendMs ?? this.#context.resendMs,
      });
    } catch (error) {
      if (!(error instanceof StoreRefusal) || error.apiCode !== wrongLastSequence) throw error;
      const present = await this.read(key, Math.max(1_000, deadlineMs - (performance.now() - startedAt)));
      if (present.messageId === options.messageId || (!present.removed && options.isMine?.(present.bytes))) {
        return { revision: present.revision, sentAt: startedAt };
      }
      throw new ConflictError(`${this.name}/${key}`, options.expected, present);
    }
    return { revision: ack.sequence, sentAt: ack.sentAt };
  }

  /** As the stream's leader has it. Tried again until the deadline. @throws BatonError STORE_UNAVAILABLE */
  async read(key: string, deadlineMs: number = this.#context.deadlineMs): Promise<Present> {
    const deadline = performance.now() + deadlineMs;
    for (;;) {
      try {
        const message = await this.#context.manager.streams.getMessage(streamOf(this.name), {
          last_by_subj: subjectOf(this.name, key),
        });
        if (message === null) return nothing;
        const operation = message.header.get("KV-Operation");
        return {
          revision: message.seq,
          bytes: message.data,
          removed: operation === "DEL" || operation === "PURGE",
          messageId: message.header.get("Nats-Msg-Id"),
        };
      } catch (cause) {
        if (performance.now() >= deadline) {
          throw new BatonError("STORE_UNAVAILABLE", `${this.name}/${key} could not be read from the store`, cause);
        }
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Takes one message out of the stream for good. @returns whether it was there. */
  async erase(revision: number): Promise<boolean> {
    try {
      return await this.#context.manager.streams.deleteMessage(streamOf(this.name), revision, false);
    } catch (error) {
      if (error instanceof Error && error.name === "JetStreamApiError") return false;
      throw new BatonError("STORE_UNAVAILABLE", `${this.name} could not be trimmed`, error);
    }
  }

  watch(handlers: WatchHandlers): { close(): void } {
    const { connection, manager, watchers } = this.#context;
    const watcher = new Watcher(connection, manager, this.name, handlers);
    watchers.add(watcher);
    return {
      close: () => {
        watchers.delete(watcher);
        watcher.close();
      },
    };
  }
}
