import {
  DiscardPolicy,
  JetStreamApiError,
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
  type StoredMsg,
} from "@nats-io/jetstream";
import { nanos } from "@nats-io/transport-node";
import { BatonError } from "../errors.js";
import { logger } from "../log.js";
import type { BucketContext } from "./bucket.js";
import { streamOf } from "./streams.js";

const STREAM = "SPILL";
const OFFSET = "Baton-Offset";
/** For what was left behind by a server that died between the end of a connection and its removal here. */
export const AGE_MAX_MS = 24 * 3_600_000;
const READ_DEADLINE_MS = 10_000;
const READ_PAUSE_MS = 50;
/** With pauses that grow, for about a minute. */
const PURGE_TRIES = 10;
const PURGE_PAUSE_MS = 1_000;
/** err_code of nats-server (server/errors.json): the name is taken by a stream of other settings; no disk for that much. */
const streamNameInUse = 10058;
const insufficientResources = 10047;

const subjectOf = (id: string) => `baton.spill.${id}`;

/** Bytes of a client's stream. */
export interface Spilled {
  offset: number;
  bytes: Buffer;
  /** In the stream. */
  sequence: number;
  /** By the store's clock. */
  writtenAtMs: number;
}

/**
 * Input of clients that is too much for their records, in pieces, one subject a connection. Nobody watches it: it is read by
 * whoever takes a connection over. Pieces of a former owner may overlap those of the next one; where they do they are equal.
 */
export class Spills {
  readonly #context: BucketContext;

  constructor(context: BucketContext) {
    this.#context = context;
  }

  /**
   * @returns the piece's sequence in the stream
   * @throws StoreRefusal where there is no room for it, BatonError STORE_UNAVAILABLE while the store is away (outcome unknown; may be tried
   * again), STORE_FAILED where it is there and the stream is not
   */
  async append(id: string, offset: number, bytes: Uint8Array, messageId: string): Promise<number> {
    const { publisher, deadlineMs, resendMs } = this.#context;
    const options = { messageId, more: [OFFSET, String(offset)] as [string, string], deadlineMs, resendMs };
    const begunAt = performance.now();
    try {
      return (await publisher.publish(subjectOf(id), bytes, options)).sequence;
    } catch (error) {
      const isLate = error instanceof BatonError && error.code === "STORE_UNAVAILABLE";
      if (!isLate || publisher.connectedSince > begunAt || !(await this.#recordsAnswer())) throw error;
      throw new BatonError("STORE_FAILED", `stream ${STREAM} does not answer, and the records' does`, error);
    }
  }

  /** A store without its quorum is away, whoever is connected to what is left of it. */
  async #recordsAnswer(): Promise<boolean> {
    try {
      await this.#context.manager.streams.info(streamOf("connections"));
      return true;
    } catch {
      return false;
    }
  }

  /** The client's stream from `from` to `to`. Throws NOT_FOUND where it is not all there, STORE_UNAVAILABLE. */
  async *read(id: string, from: number, to: number): AsyncGenerator<Spilled, void> {
    let sequence = 1;
    for (let at = from; at < to; ) {
      const piece = await this.#next(id, sequence, at);
      if (!piece) throw new BatonError("NOT_FOUND", `the store has not kept the client's stream from ${at} to ${to}`);
      sequence = piece.sequence + 1;
      if (piece.offset > at) continue; // of an owner whose next record never was; the one after it has begun further back
      const bytes = piece.bytes.subarray(at - piece.offset, to - piece.offset);
      if (bytes.length === 0) continue; // another owner's of the same bytes, or used already
      yield { ...piece, offset: at, bytes };
      at += bytes.length;
    }
  }

  /** Takes a connection's pieces away, some time or other. Never rejects. @param upTo sequence of the last of them; missing: all */
  async purge(id: string, upTo?: number): Promise<void> {
    const filter = subjectOf(id);
    const what = upTo === undefined ? { filter } : { filter, seq: upTo + 1 };
    for (let tries = 1; ; tries++) {
      try {
        await this.#context.manager.streams.purge(STREAM, what);
        return;
      } catch (error) {
        if (tries === PURGE_TRIES) {
          logger("store").warn({ err: error, connection: id }, "spilled input stays in the store until it is old");
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, PURGE_PAUSE_MS * tries).unref());
    }
  }

  /**
   * The next piece from `seq` on. Any replica answers a direct get, also one that has yet to apply what the others have acknowledged:
   * whatever does not go on at `at` there is the leader's to say.
   */
  async #next(id: string, seq: number, at: number): Promise<Spilled | undefined> {
    const { direct, streams } = this.#context.manager;
    const deadline = performance.now() + READ_DEADLINE_MS;
    const query = { next_by_subj: subjectOf(id), seq };
    for (;;) {
      try {
        const near = spilledOf(await direct.getMessage(STREAM, query));
        if (near && near.offset <= at) return near;
        return spilledOf(await streams.getMessage(STREAM, query));
      } catch (cause) {
        if (performance.now() > deadline) {
          throw new BatonError("STORE_UNAVAILABLE", `the spilled input of ${id} could not be read`, cause);
        }
      }
      await new Promise((resolve) => setTimeout(resolve, READ_PAUSE_MS));
    }
  }
}

function spilledOf(message: StoredMsg | null): Spilled | undefined {
  if (!message) return undefined;
  const { seq: sequence, time, header, data } = message;
  return { offset: Number(header.get(OFFSET)), bytes: Buffer.from(data), sequence, writtenAtMs: time.getTime() };
}

/**
 * Makes the stream if it is not there; one that is there gets its bounds. @throws BatonError STORE_FAILED where the store has no disk for
 * it, or has it with settings under which pieces would be lost
 */
export async function ensureSpills(manager: JetStreamManager, replicas: number, bytesMax: number): Promise<void> {
  try {
    await manager.streams.add({
      name: STREAM,
      subjects: [subjectOf(">")],
      retention: RetentionPolicy.Limits,
      storage: StorageType.File,
      discard: DiscardPolicy.New,
      max_bytes: bytesMax,
      max_age: nanos(AGE_MAX_MS),
      num_replicas: replicas,
      duplicate_window: nanos(120_000),
      allow_direct: true, // a piece never changes, and what a replica does not have yet its leader is asked for
    });
  } catch (error) {
    if (!(error instanceof JetStreamApiError)) throw error;
    if (error.code === streamNameInUse) return adjust(manager, bytesMax);
    throw error.code === insufficientResources ? noRoom(bytesMax, error) : error;
  }
}

/** Another process made it first, or it exists with other replicas, storage, ...: an operator's choice is left alone. */
async function adjust(manager: JetStreamManager, bytesMax: number): Promise<void> {
  const { config, state } = await manager.streams.info(STREAM);
  const { subjects, retention, discard, max_msgs_per_subject, allow_direct } = config;
  const takesAll = subjects?.length === 1 && subjects[0] === subjectOf(">");
  const keepsAll = retention === RetentionPolicy.Limits && discard === DiscardPolicy.New && max_msgs_per_subject <= 0;
  if (!takesAll || !keepsAll || !allow_direct) {
    throw new BatonError(
      "STORE_FAILED",
      `stream ${STREAM} exists, but not as Baton needs it: its subject must be ${subjectOf(">")}, retention limits, discard new, max_msgs_per_subject none, and allow_direct on`,
    );
  }
  const age = nanos(AGE_MAX_MS);
  // Whatever is above a new bound, the oldest pieces first, the server would throw away.
  const grows = config.max_bytes > 0 && bytesMax >= config.max_bytes;
  const fits = grows || 2 * state.bytes <= bytesMax;
  if (!fits)
    logger("store").warn({ bytes: state.bytes, bytesMax }, `too much is in stream ${STREAM} to make it smaller`);
  const max_bytes = fits ? bytesMax : config.max_bytes;
  if (max_bytes === config.max_bytes && age === config.max_age) return;
  try {
    await manager.streams.update(STREAM, { max_bytes, max_age: age });
  } catch (error) {
    const isRoom = error instanceof JetStreamApiError && error.code === insufficientResources;
    throw isRoom ? noRoom(bytesMax, error) : error;
  }
}

function noRoom(bytesMax: number, cause: Error): BatonError {
  const megabytes = Math.round(bytesMax / 1_048_576);
  const advice = "lower limits.spillMegabytes, or give NATS more disk";
  return new BatonError(
    "STORE_FAILED",
    `The store has no room for ${megabytes} MiB of request bodies: ${advice}.`,
    cause,
  );
}
