import {
  DiscardPolicy,
  JetStreamApiError,
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from "@nats-io/jetstream";
import { nanos } from "@nats-io/transport-node";
import { BatonError } from "../errors.js";

const streamNameInUse = 10058;

/** The stream behind a bucket, named and laid out as NATS' own key-value buckets are, so that `nats kv` can read them. */
export function streamOf(bucket: string): string {
  return `KV_${bucket}`;
}

export function subjectOf(bucket: string, key: string): string {
  return `$KV.${bucket}.${key}`;
}

/**
 * Makes the bucket's stream if it is not there. `allow_direct` stays off: any replica may answer a direct get, and an
 * owner read from a stale one would be believed. One message a subject, so "from the beginning" is "last per subject".
 */
export async function ensureStream(manager: JetStreamManager, bucket: string, replicas: number): Promise<void> {
  const name = streamOf(bucket);
  const wanted: Partial<StreamConfig> & { name: string } = {
    name,
    subjects: [subjectOf(bucket, ">")],
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    discard: DiscardPolicy.New,
    max_msgs_per_subject: 1,
    num_replicas: replicas,
    duplicate_window: nanos(120_000),
    allow_direct: false,
    allow_rollup_hdrs: false,
    deny_delete: false,
    deny_purge: false,
  };
  try {
    await manager.streams.add(wanted);
    return;
  } catch (error) {
    // Another process made it first, or it exists with other replicas, storage, ...: an operator's choice is left alone.
    if (!(error instanceof JetStreamApiError) || error.code !== streamNameInUse) throw error;
  }
  const { config } = await manager.streams.info(name);
  if (config.allow_direct || config.max_msgs_per_subject !== 1) {
    throw new BatonError(
      "STORE_FAILED",
      `stream ${name} exists, but not as Baton needs it: allow_direct must be off and max_msgs_per_subject 1`,
    );
  }
}
