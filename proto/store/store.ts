import { EventEmitter } from "node:events";
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { BatonError } from "../errors.js";
import { logger } from "../log.js";
import type { BucketContext } from "./bucket.js";
import { ConnectionsBucket } from "./connections.js";
import { LeasesBucket } from "./leases.js";
import { headersBytesMax, Publisher } from "./publisher.js";
import { DocumentBucket } from "./servers.js";
import { ensureSpills, Spills } from "./spills.js";
import { ensureStream } from "./streams.js";

/** What the controllers remember of a server. */
export interface ServerDocument {
  id: string;
  slot: number;
  generation: number;
  /** Incarnation to which this generation belongs. */
  incarnation: number;
  /** An operator has taken it out of rotation, until it is put back. */
  drained?: boolean;
}

export interface StoreOptions {
  /** URLs, or HOST:PORT. */
  servers: string | string[];
  /** Who connects; part of message ids, so unique a process life. */
  name: string;
  /** Copies of each bucket. Only for buckets that do not exist yet. */
  replicas?: number;
  /** What the servers' max_payload must have room for, bytes. */
  messageBytesMax?: number;
  /** Room for spilled input, bytes; missing: who connects has none. */
  spillBytesMax?: number;
  reconnectWaitMs?: number;
  connectTimeoutMs?: number;
  /** How long a write is tried before its outcome is given up as unknown. */
  commitDeadlineMs?: number;
  /** Milliseconds without an answer after which a write is sent again under its message id. */
  resendMs?: number;
  /** Told once a second, in a sentence, while the store cannot be reached at the start. Default: a warning in the log. */
  onWaiting?: (sentence: string) => void;
  /** Ends the attempts to reach the store at the start. */
  signal?: AbortSignal;
}

interface StoreEvents {
  connected: [];
  disconnected: [];
}

const bucketNames = ["connections", "leases", "servers"];
/** A connection to a host that was cut off is noticed after three of them. */
const pingMs = 500;
const apiTimeoutMs = 2_000;

/** A connection to NATS for the life of the process: it reconnects for ever. Events: `connected` (again), `disconnected`. */
export class Store extends EventEmitter<StoreEvents> {
  readonly connections: ConnectionsBucket;
  readonly spills: Spills;
  readonly leases: LeasesBucket;
  readonly servers: DocumentBucket<ServerDocument>;
  readonly #connection: NatsConnection;
  readonly #manager: JetStreamManager;
  readonly #publisher: Publisher;
  readonly #context: BucketContext;
  readonly #wanted: Wanted;
  #connected = true;
  #closed = false;

  constructor(connection: NatsConnection, manager: JetStreamManager, options: StoreOptions) {
    super();
    this.#connection = connection;
    this.#manager = manager;
    this.#publisher = new Publisher(connection);
    this.#wanted = options;
    this.#context = {
      connection,
      manager,
      publisher: this.#publisher,
      deadlineMs: options.commitDeadlineMs ?? 10_000,
      resendMs: options.resendMs ?? 500,
      watchers: new Set(),
    };
    const writer = `${options.name}/${process.pid}/${Date.now().toString(36)}`;
    this.connections = new ConnectionsBucket(this.#context, `${writer}/c`);
    this.spills = new Spills(this.#context);
    this.leases = new LeasesBucket(this.#context);
    this.servers = new DocumentBucket("servers", this.#context, `${writer}/s`);
    void this.#follow();
  }

  get connected(): boolean {
    return this.#connected;
  }

  /** HOST:PORT of the server at the other end; "" while there is none. */
  get server(): string {
    return this.#connected ? this.#connection.getServer() : "";
  }

  /** Writes that wait for the store's answer. */
  get pending(): number {
    return this.#publisher.pending;
  }

  /** Writes sent again since the start. */
  get resent(): number {
    return this.#publisher.resent;
  }

  /** Changes that were passed over, because a watcher's handler threw; should stay 0. */
  get passedOver(): number {
    let sum = 0;
    for (const watcher of this.#context.watchers) sum += watcher.failures;
    return sum;
  }

  /**
   * Resolves when everything that the server had sent to this process before it got our question has been handed to the
   * watchers. @throws BatonError STORE_UNAVAILABLE if the connection ends meanwhile
   */
  async barrier(): Promise<void> {
    try {
      await this.#connection.flush();
    } catch (cause) {
      throw new BatonError("STORE_UNAVAILABLE", "the connection to the store ended", cause);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const watcher of this.#context.watchers) watcher.close();
    this.#publisher.close();
    await this.#connection.close();
  }

  async #follow(): Promise<void> {
    for await (const status of this.#connection.status()) {
      if (this.#closed) return;
      if (status.type === "disconnect" && this.#connected) this.#lost();
      else if (status.type === "reconnect" && !this.#connected) this.#regained();
    }
    if (!this.#closed) {
      this.#lost();
      logger("store").error("the connection to the store was closed for good");
    }
  }

  #lost(): void {
    this.#connected = false;
    this.#publisher.disconnected();
    for (const watcher of this.#context.watchers) watcher.interrupt("the connection to the store is gone");
    logger("store").warn("the connection to the store is gone");
    this.emit("disconnected");
  }

  #regained(): void {
    this.#connected = true;
    logger("store").info({ server: this.#connection.getServer() }, "connected to the store again");
    this.#publisher.reconnected();
    for (const watcher of this.#context.watchers) watcher.restart("connected again");
    this.emit("connected");
    void this.#ensure();
  }

  /** A store that has lost its disk has no streams; without them every write would wait for its deadline. */
  async #ensure(): Promise<void> {
    while (this.#connected && !this.#closed) {
      try {
        await ensureStreams(this.#manager, this.#wanted);
        return;
      } catch (error) {
        logger("store").debug({ err: error }, "the buckets cannot be looked at yet");
      }
      await sleep(100);
    }
  }
}

/**
 * Connects and makes the buckets, trying for ever (until `signal`). @throws BatonError STORE_UNAVAILABLE when aborted,
 * STORE_FAILED when a bucket exists with settings that Baton cannot work with, STORE_TOO_SMALL when its servers take too little
 */
export async function connectStore(options: StoreOptions): Promise<Store> {
  const servers = typeof options.servers === "string" ? [options.servers] : options.servers;
  const say = options.onWaiting ?? ((sentence) => logger("store").warn(sentence));
  let saidAt = Number.NEGATIVE_INFINITY;
  for (;;) {
    let connection: NatsConnection | undefined;
    try {
      connection = await connect({
        servers,
        name: options.name,
        maxReconnectAttempts: -1,
        reconnectTimeWait: options.reconnectWaitMs ?? 30,
        reconnectJitter: 0,
        reconnectJitterTLS: 0,
        timeout: options.connectTimeoutMs ?? 1_000,
        pingInterval: pingMs,
        maxPingOut: 2,
        ignoreAuthErrorAbort: true,
        noAsyncTraces: true,
      });
      requireRoom(connection, options.messageBytesMax ?? 0);
      const manager = await jetstreamManager(connection, { timeout: apiTimeoutMs });
      await ensureStreams(manager, options);
      return new Store(connection, manager, options);
    } catch (error) {
      await connection?.close();
      if (error instanceof BatonError) throw error;
      if (options.signal?.aborted) {
        throw new BatonError("STORE_UNAVAILABLE", `gave up connecting to the store at ${servers.join(", ")}`, error);
      }
      if (performance.now() - saidAt >= 1_000) {
        saidAt = performance.now();
        const why = error instanceof Error ? error.message : String(error);
        say(`the store at ${servers.join(", ")} cannot be reached yet (${why}); trying on`);
      }
    }
    await sleep(100);
  }
}

type Wanted = Pick<StoreOptions, "replicas" | "spillBytesMax">;

async function ensureStreams(manager: JetStreamManager, { replicas = 1, spillBytesMax }: Wanted): Promise<void> {
  for (const bucket of bucketNames) await ensureStream(manager, bucket, replicas);
  if (spillBytesMax !== undefined) await ensureSpills(manager, replicas, spillBytesMax);
}

/** Better no start than a connection that hangs when its client's upload has grown. */
function requireRoom(connection: NatsConnection, bytes: number): void {
  const most = connection.info?.max_payload ?? Number.POSITIVE_INFINITY;
  if (bytes + headersBytesMax <= most) return;
  const server = connection.getServer();
  throw new BatonError(
    "STORE_TOO_SMALL",
    `The store at ${server} takes messages of ${most} bytes, and a record may have ${bytes + headersBytesMax}: raise max_payload there, or lower limits.inputBytes or the services' responseKilobytes.`,
  );
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
