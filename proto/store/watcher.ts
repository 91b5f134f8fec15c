import { AckPolicy, DeliverPolicy, type JetStreamManager, ReplayPolicy } from "@nats-io/jetstream";
import { createInbox, type Msg, type NatsConnection, nanos, type Subscription } from "@nats-io/transport-node";
import { logger } from "../log.js";
import { streamOf, subjectOf } from "./streams.js";

export interface WatchedMessage {
  key: string;
  revision: number;
  bytes: Uint8Array;
  removed: boolean;
  /** CLOCK_MONOTONIC nanoseconds at which this process saw it, before it was parsed. */
  arrivedNs: bigint;
  /** Unix milliseconds at which the store took it. */
  storedAtMs: number;
}

export interface WatchHandlers {
  /**
   * Called in stream order, at most once a revision. A removal found out late has the revision known before it. What it throws is
   * logged and counted, and the next message comes all the same.
   */
  onMessage(message: WatchedMessage): void;
  /** Everything up to this stream sequence has been handed over. Once at the start and again after each interruption. */
  onCaughtUp(sequence: number): void;
  /** The view stands still from now on, until the next onCaughtUp. */
  onInterrupted?(why: string): void;
}

const heartbeatMs = 500;
const heartbeatsMissed = 4;
const retryMs = 50;
/** After a longer interruption removals may have been trimmed meanwhile: everything is read again and compared. */
const resumeMsMax = 60_000;
const closeGraceNs = nanos(5_000);

/**
 * One ordered view of a bucket: an ephemeral push consumer with flow control. A gap in the consumer's sequence, silence
 * past the heartbeats or a reconnect begins a new consumer behind the last sequence seen. If the stream is another one
 * than before, or the interruption was long, it begins at the start and reports what has vanished.
 */
export class Watcher {
  readonly #connection: NatsConnection;
  readonly #manager: JetStreamManager;
  readonly #bucket: string;
  readonly #handlers: WatchHandlers;
  readonly #prefix: number;
  /** Revision of every living key. */
  readonly #known = new Map<string, number>();
  /** Keys seen since a replay from the start began; undefined when none is under way. */
  #replayed: Set<string> | undefined;
  #subscription: Subscription | undefined;
  #attempt = 0;
  #consumerSequence = 0;
  #streamCreated = "";
  #seen = 0;
  #target = 0;
  #caughtUp = false;
  #interruptedAt = performance.now();
  #missed = 0;
  #monitor: NodeJS.Timeout | undefined;
  #closed = false;
  restarts = 0;
  /** Messages that their handler threw at. */
  failures = 0;

  constructor(connection: NatsConnection, manager: JetStreamManager, bucket: string, handlers: WatchHandlers) {
    this.#connection = connection;
    this.#manager = manager;
    this.#bucket = bucket;
    this.#handlers = handlers;
    this.#prefix = subjectOf(bucket, "").length;
    this.#monitor = setInterval(() => this.#check(), heartbeatMs);
    void this.#open();
  }

  get caughtUp(): boolean {
    return this.#caughtUp;
  }

  /** Begins a new consumer where the last one ended. */
  restart(why: string): void {
    if (this.#closed) return;
    this.interrupt(why);
    this.restarts++;
    void this.#open();
  }

  /** The connection is gone: nothing comes until `restart`. */
  interrupt(why: string): void {
    this.#attempt++;
    this.#subscription?.unsubscribe();
    this.#subscription = undefined;
    if (this.#caughtUp) {
      this.#caughtUp = false;
      this.#interruptedAt = performance.now();
      this.#handlers.onInterrupted?.(why);
    }
  }

  close(): void {
    this.#closed = true;
    this.#attempt++;
    clearInterval(this.#monitor);
    this.#subscription?.unsubscribe();
  }

  async #open(): Promise<void> {
    const attempt = ++this.#attempt;
    for (;;) {
      try {
        await this.#begin(attempt);
        return;
      } catch (error) {
        if (attempt !== this.#attempt) return;
        logger("store").debug({ bucket: this.#bucket, err: error }, "the bucket cannot be watched yet");
      }
      await new Promise((resolve) => setTimeout(resolve, retryMs));
      if (attempt !== this.#attempt) return;
    }
  }

  async #begin(attempt: number): Promise<void> {
    const stream = streamOf(this.#bucket);
    const info = await this.#manager.streams.info(stream);
    if (attempt !== this.#attempt) return;
    const sameStream = this.#streamCreated === info.created && info.state.last_seq >= this.#seen;
    const resumes = sameStream && performance.now() - this.#interruptedAt < resumeMsMax;
    if (!sameStream) {
      this.#seen = 0;
      for (const key of this.#known.keys()) this.#known.set(key, 0);
    }
    if (!resumes || this.#replayed !== undefined) this.#replayed = new Set();
    this.#streamCreated = info.created;
    this.#target = info.state.last_seq;
    this.#consumerSequence = 0;
    this.#missed = 0;

    this.#subscription?.unsubscribe();
    const inbox = createInbox();
    this.#subscription = this.#connection.subscribe(inbox, {
      callback: (_error, message) => {
        if (attempt === this.#attempt) this.#receive(message);
      },
    });
    const from = this.#replayed === undefined ? this.#seen + 1 : 1;
    const consumer = await this.#manager.consumers.add(stream, {
      deliver_subject: inbox,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: from,
      ack_policy: AckPolicy.None,
      replay_policy: ReplayPolicy.Instant,
      filter_subject: subjectOf(this.#bucket, ">"),
      flow_control: true,
      idle_heartbeat: nanos(heartbeatMs),
      inactive_threshold: closeGraceNs,
      mem_storage: true,
      num_replicas: 1,
    });
    if (attempt !== this.#attempt) return;
    if (consumer.num_pending === 0 && this.#consumerSequence === 0) this.#reachedEnd();
  }

  #receive(message: Msg): void {
    const arrivedNs = process.hrtime.bigint();
    this.#missed = 0;
    const reply = message.reply;
    if (message.headers?.code === 100) {
      this.#control(message);
      return;
    }
    // $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time ns>.<pending>
    const tokens = (reply ?? "").split(".");
    const revision = Number(tokens[5]);
    const consumerSequence = Number(tokens[6]);
    if (tokens.length < 9 || consumerSequence !== this.#consumerSequence + 1) {
      this.restart("a message is missing");
      return;
    }
    this.#consumerSequence = consumerSequence;
    this.#seen = Math.max(this.#seen, revision);
    const key = message.subject.slice(this.#prefix);
    const operation = message.headers?.get("KV-Operation") ?? "";
    const removed = operation === "DEL" || operation === "PURGE";
    this.#replayed?.add(key);
    if (revision > (this.#known.get(key) ?? 0)) {
      if (removed) this.#known.delete(key);
      else this.#known.set(key, revision);
      const storedAtMs = Math.floor(Number(tokens[7]) / 1e6);
      this.#hand({ key, revision, bytes: message.data, removed, arrivedNs, storedAtMs });
    }
    if (!this.#caughtUp && (revision >= this.#target || tokens[8] === "0")) this.#reachedEnd();
  }

  /** One message that cannot be taken in must not cost all the others: thrown into nats.js it would end the connection. */
  #hand(message: WatchedMessage): void {
    try {
      this.#handlers.onMessage(message);
    } catch (error) {
      this.failures++;
      const { key, revision } = message;
      logger("store").error(
        { bucket: this.#bucket, key, revision, err: error },
        "a change in the store is passed over",
      );
    }
  }

  /** Flow control wants an echo; an idle heartbeat tells the last consumer sequence, and a stalled one wants its echo too. */
  #control(message: Msg): void {
    if (message.reply) {
      message.respond();
      return;
    }
    const stalled = message.headers?.get("Nats-Consumer-Stalled");
    if (stalled) this.#connection.publish(stalled);
    const last = Number(message.headers?.get("Nats-Last-Consumer") ?? Number.NaN);
    if (last > this.#consumerSequence) this.restart("messages are missing before a heartbeat");
    else if (!this.#caughtUp && last === this.#consumerSequence && !stalled) this.#reachedEnd();
  }

  #reachedEnd(): void {
    this.#seen = Math.max(this.#seen, this.#target);
    this.#caughtUp = true;
    const replayed = this.#replayed;
    if (replayed !== undefined) {
      this.#replayed = undefined;
      for (const [key, revision] of [...this.#known]) {
        if (replayed.has(key)) continue;
        this.#known.delete(key);
        const arrivedNs = process.hrtime.bigint();
        const bytes = new Uint8Array(0);
        this.#hand({ key, revision, bytes, removed: true, arrivedNs, storedAtMs: Date.now() });
      }
    }
    this.#handlers.onCaughtUp(this.#seen);
  }

  /** A tick is counted, not a time: after a stall of this process there is one tick, then the messages that waited. */
  #check(): void {
    if (this.#subscription === undefined) return;
    if (++this.#missed > heartbeatsMissed) this.restart("the consumer is silent");
  }
}
