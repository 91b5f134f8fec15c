import { createInbox, headers, type Msg, type MsgHdrs, type NatsConnection } from "@nats-io/transport-node";
import { BatonError } from "../errors.js";
import { StoreRefusal } from "./errors.js";

/** JetStream's answer to a publish. */
export interface Ack {
  /** The message's sequence in its stream, which is the key's revision. */
  sequence: number;
  /** The stream had a message with this id already: `sequence` is that one's. */
  duplicate: boolean;
  /** performance.now() at which it was first given to the connection, milliseconds. */
  sentAt: number;
}

export interface PublishOptions {
  messageId: string;
  /** Sequence of the subject's last message; 0 = none. Checked by the server; missing: not looked at. */
  expected?: number;
  /** Another header of the message. */
  more?: [name: string, value: string];
  /** Marks a tombstone. */
  remove?: boolean;
  /** Milliseconds from now after which the outcome is given up as unknown (STORE_UNAVAILABLE). */
  deadlineMs: number;
  /** Milliseconds without an answer after which it is sent again under the same id; doubles each time. */
  resendMs: number;
}

interface Pending {
  token: string;
  subject: string;
  data: Uint8Array;
  headers: MsgHdrs;
  deadline: number;
  resendAt: number;
  resendMs: number;
  sentAt: number;
  resolve: (ack: Ack) => void;
  reject: (error: Error) => void;
}

const pendingMax = 65_536;
/** err_code of a message above the stream's own bound (nats-server, server/errors.json). */
const messageTooLarge = 10054;
/** What a write's headers take at most; they count towards max_payload. */
export const headersBytesMax = 1024;
const sweepMs = 10;
/** While a stream recovers after a restart, nobody answers for its subjects. */
const noResponderMs = 20;

/**
 * Publishes to JetStream, any number at once over one subscription. A message is sent again under the same id after a
 * reconnect, while nobody is responsible for its subject, and when no answer came: the server's duplicate window makes
 * that harmless. One timer serves all.
 */
export class Publisher {
  readonly #connection: NatsConnection;
  readonly #inbox = `${createInbox()}.`;
  readonly #pending = new Map<string, Pending>();
  #counter = 0;
  #timer: NodeJS.Timeout | undefined;
  #connected = true;
  #connectedSince = performance.now();
  #unsent: Pending[] = [];
  resent = 0;

  constructor(connection: NatsConnection) {
    this.#connection = connection;
    connection.subscribe(`${this.#inbox}*`, { callback: (_error, message) => this.#answer(message) });
  }

  get pending(): number {
    return this.#pending.size;
  }

  /** performance.now() since which the store was there without a break; infinite while it is away. */
  get connectedSince(): number {
    return this.#connected ? this.#connectedSince : Number.POSITIVE_INFINITY;
  }

  /** Rejects with StoreRefusal, or BatonError STORE_UNAVAILABLE (outcome unknown), LIMIT_REACHED or STORE_TOO_SMALL (not sent). */
  publish(subject: string, data: Uint8Array, options: PublishOptions): Promise<Ack> {
    if (this.#pending.size >= pendingMax) {
      return Promise.reject(new BatonError("LIMIT_REACHED", `${pendingMax} writes wait for the store's answer`));
    }
    const header = headers();
    header.set("Nats-Msg-Id", options.messageId);
    if (options.expected !== undefined) header.set("Nats-Expected-Last-Subject-Sequence", String(options.expected));
    if (options.more) header.set(...options.more);
    if (options.remove) header.set("KV-Operation", "DEL");
    const now = performance.now();
    return new Promise((resolve, reject) => {
      const entry: Pending = {
        token: (this.#counter++).toString(36),
        subject,
        data,
        headers: header,
        deadline: now + options.deadlineMs,
        resendAt: now + options.resendMs,
        resendMs: options.resendMs,
        sentAt: now,
        resolve,
        reject,
      };
      this.#pending.set(entry.token, entry);
      this.#timer ??= setInterval(() => this.#sweep(), sweepMs);
      this.#sendSoon(entry);
    });
  }

  /** What this turn of the loop publishes goes out together: a system call and a wake-up of the store each would cost more. */
  #sendSoon(entry: Pending): void {
    this.#unsent.push(entry);
    if (this.#unsent.length > 1) return;
    setImmediate(() => {
      const entries = this.#unsent;
      this.#unsent = [];
      if (!this.#connected) return; // `reconnected` sends whatever is pending
      for (const each of entries) if (this.#pending.has(each.token)) this.#send(each);
    });
  }

  disconnected(): void {
    this.#connected = false;
  }

  /** Everything unanswered goes out again, oldest first. */
  reconnected(): void {
    this.#connected = true;
    const now = performance.now();
    this.#connectedSince = now;
    for (const entry of [...this.#pending.values()]) {
      if (entry.deadline <= now) this.#expire(entry);
      else this.#resend(entry, now);
    }
  }

  close(): void {
    for (const entry of [...this.#pending.values()]) this.#expire(entry);
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #send(entry: Pending): void {
    try {
      this.#connection.publish(entry.subject, entry.data, {
        reply: this.#inbox + entry.token,
        headers: entry.headers,
      });
    } catch (cause) {
      this.#take(entry);
      entry.reject(
        this.#tooLarge(entry) ?? new BatonError("STORE_FAILED", `${entry.subject} could not be sent`, cause),
      );
    }
  }

  /** What the servers never take, however often it is tried. */
  #tooLarge({ subject, data }: Pending): BatonError | undefined {
    const most = this.#connection.info?.max_payload;
    if (most === undefined || data.length + headersBytesMax <= most) return undefined;
    return new BatonError("STORE_TOO_SMALL", `${subject} has ${data.length} bytes, the store's max_payload is ${most}`);
  }

  #resend(entry: Pending, now: number): void {
    this.resent++;
    entry.resendMs = Math.min(entry.resendMs * 2, 5_000);
    entry.resendAt = now + entry.resendMs;
    this.#send(entry);
  }

  #answer(message: Msg): void {
    const entry = this.#pending.get(message.subject.slice(this.#inbox.length));
    if (entry === undefined) return; // the answer to a second sending
    if (message.data.length === 0) {
      if (message.headers?.code === 503) entry.resendAt = performance.now() + noResponderMs;
      return;
    }
    let ack: { seq?: number; duplicate?: boolean; error?: { code: number; err_code: number; description: string } };
    try {
      ack = message.json();
    } catch (cause) {
      this.#take(entry);
      entry.reject(new BatonError("STORE_FAILED", `the store's answer for ${entry.subject} is not JSON`, cause));
      return;
    }
    if (ack.error !== undefined) {
      if (ack.error.code === 503 && !isFull(ack.error.description)) {
        entry.resendAt = performance.now() + noResponderMs; // "temporarily unavailable": no leader, still recovering
        return;
      }
      this.#take(entry);
      entry.reject(refusalOf(entry, ack.error));
      return;
    }
    this.#take(entry);
    entry.resolve({ sequence: ack.seq ?? 0, duplicate: ack.duplicate ?? false, sentAt: entry.sentAt });
  }

  #sweep(): void {
    const now = performance.now();
    for (const entry of this.#pending.values()) {
      if (entry.deadline <= now) this.#expire(entry);
      else if (this.#connected && entry.resendAt <= now) this.#resend(entry, now);
    }
    if (this.#pending.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }

  #expire(entry: Pending): void {
    this.#take(entry);
    entry.reject(
      new BatonError(
        "STORE_UNAVAILABLE",
        `the store has not acknowledged ${entry.subject} in time; its outcome is unknown`,
      ),
    );
  }

  #take(entry: Pending): void {
    this.#pending.delete(entry.token);
  }
}

/** A stream at its own bound (server/store.go, ErrMaxBytes); the code is that of every failure to store. */
function isFull(description: string): boolean {
  return description.includes("maximum bytes exceeded");
}

function refusalOf({ subject, data }: Pending, error: { err_code: number; description: string }): BatonError {
  if (error.err_code !== messageTooLarge) return new StoreRefusal(subject, error.err_code, error.description);
  return new BatonError("STORE_TOO_SMALL", `${subject} has ${data.length} bytes, more than its stream's max_msg_size`);
}
