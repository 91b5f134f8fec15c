import { BatonError } from "../errors.js";
import { Bucket, type BucketContext } from "./bucket.js";

/** alive: held by a supervisor; fenced: its supervisor says that nothing leaves any more; dead: a controller has declared it. */
export type LeaseState = "alive" | "fenced" | "dead";

export interface Lease {
  server: string;
  /** Grows by one each time that the lease is taken anew. */
  incarnation: number;
  state: LeaseState;
  /** Counts renewals of this incarnation. */
  renewal: number;
  /** Names the machine's boot and network namespace: whoever has the same one shares the guard's maps. */
  boot: string;
}

export interface LeaseEntry {
  lease: Lease;
  revision: number;
}

export interface LeasesHandlers {
  /** @param arrivedNs CLOCK_MONOTONIC nanoseconds at which this process saw it */
  onLease(entry: LeaseEntry, arrivedNs: bigint): void;
  onRemoved?(server: string, revision: number): void;
  onCaughtUp(sequence: number): void;
  onInterrupted?(why: string): void;
}

export interface LeasePutOptions {
  /** Unique a write. */
  messageId: string;
  deadlineMs: number;
}

const states: readonly string[] = ["alive", "fenced", "dead"];
/** A renewal that is not answered within a few round trips is asked for again: its message id makes that harmless. */
const resendMs = 50;

/** Bucket `leases`: one small JSON document a server, changed by compare-and-set alone. */
export class LeasesBucket {
  readonly #bucket: Bucket;

  constructor(context: BucketContext) {
    this.#bucket = new Bucket("leases", context);
  }

  /** @returns the new revision. @throws ConflictError (decode its bytes with `decodeLease`), STORE_UNAVAILABLE */
  async put(lease: Lease, expected: number, options: LeasePutOptions): Promise<number> {
    const put = { ...options, expected, resendMs };
    return (await this.#bucket.put(lease.server, Buffer.from(JSON.stringify(lease)), put)).revision;
  }

  /** The leader's view; `undefined` if there is none. The revision to expect is 0 then, or that of a tombstone. */
  async read(server: string, deadlineMs?: number): Promise<{ lease: Lease | undefined; revision: number }> {
    const present = await this.#bucket.read(server, deadlineMs);
    const lease = present.revision === 0 || present.removed ? undefined : decodeLease(present.bytes);
    return { lease, revision: present.revision };
  }

  watch(handlers: LeasesHandlers): { close(): void } {
    return this.#bucket.watch({
      onMessage: (message) => {
        if (message.removed) handlers.onRemoved?.(message.key, message.revision);
        else handlers.onLease({ lease: decodeLease(message.bytes), revision: message.revision }, message.arrivedNs);
      },
      onCaughtUp: (sequence) => handlers.onCaughtUp(sequence),
      ...(handlers.onInterrupted && { onInterrupted: handlers.onInterrupted.bind(handlers) }),
    });
  }
}

/** @throws BatonError RECORD_INVALID */
export function decodeLease(bytes: Uint8Array): Lease {
  let lease: Lease;
  try {
    lease = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8"));
  } catch (cause) {
    throw new BatonError("RECORD_INVALID", "a lease in the store is not JSON", cause);
  }
  const counts = Number.isSafeInteger(lease?.incarnation) && Number.isSafeInteger(lease.renewal);
  if (!counts || typeof lease.server !== "string" || typeof lease.boot !== "string" || !states.includes(lease.state)) {
    throw new BatonError("RECORD_INVALID", "a lease in the store lacks server, incarnation, state, renewal or boot");
  }
  return lease;
}
