import { BatonError } from "../errors.js";
import { Bucket, type BucketContext } from "./bucket.js";

export interface DocumentHandlers<T> {
  onDocument(key: string, revision: number, document: T): void;
  onRemoved?(key: string, revision: number): void;
  onCaughtUp(sequence: number): void;
  onInterrupted?(why: string): void;
}

/** Small JSON documents with compare-and-set. Bucket `servers` holds what the controllers remember of each server. */
export class DocumentBucket<T> {
  readonly #bucket: Bucket;
  readonly #writer: string;
  #counter = 0;

  constructor(name: string, context: BucketContext, writer: string) {
    this.#bucket = new Bucket(name, context);
    this.#writer = writer;
  }

  /** @returns the new revision. @throws ConflictError (decode its bytes with `decode`), STORE_UNAVAILABLE */
  async put(key: string, document: T, expected: number, deadlineMs?: number): Promise<number> {
    const messageId = `${this.#writer}/${++this.#counter}`;
    const put = { messageId, expected, ...(deadlineMs !== undefined && { deadlineMs }) };
    return (await this.#bucket.put(key, Buffer.from(JSON.stringify(document)), put)).revision;
  }

  async read(key: string, deadlineMs?: number): Promise<{ document: T | undefined; revision: number }> {
    const present = await this.#bucket.read(key, deadlineMs);
    const document = present.revision === 0 || present.removed ? undefined : this.decode(present.bytes);
    return { document, revision: present.revision };
  }

  decode(bytes: Uint8Array): T {
    try {
      return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8")) as T;
    } catch (cause) {
      throw new BatonError("RECORD_INVALID", `a document in bucket ${this.#bucket.name} is not JSON`, cause);
    }
  }

  watch(handlers: DocumentHandlers<T>): { close(): void } {
    return this.#bucket.watch({
      onMessage: (message) => {
        if (message.removed) handlers.onRemoved?.(message.key, message.revision);
        else handlers.onDocument(message.key, message.revision, this.decode(message.bytes));
      },
      onCaughtUp: (sequence) => handlers.onCaughtUp(sequence),
      ...(handlers.onInterrupted && { onInterrupted: handlers.onInterrupted.bind(handlers) }),
    });
  }
}
