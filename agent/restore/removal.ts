import type { ConnectionHost } from "../connection/host.js";

/** Takes away a record whose connection is nobody's any more, and what the store has beside it. Rejects where the record stays. */
export async function removeRecord(
  { bucket, spills }: Pick<ConnectionHost, "bucket" | "spills">,
  id: string,
  revision: number,
): Promise<void> {
  await bucket.remove(id, revision);
  void spills.purge(id);
}
