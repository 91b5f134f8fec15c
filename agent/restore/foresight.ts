import { type ConnectionRecord, decodeRecord } from "../../proto/record.js";
import type { Known } from "./known_records.js";

/** What is played changes seldom, and a record is written ten times a second. */
const AGAIN_MS = 5_000;

/**
 * Looks at the records of control connections that other servers have: their layers here may get ready what they would need to go on, and what is
 * not made in the moment of a takeover keeps nobody waiting.
 */
export class Foresight {
  private readonly lookedAt = new Map<string, number>();

  /** @param foresee may do nothing. Must not throw */
  constructor(
    private readonly serverId: string,
    private readonly foresee: (record: ConnectionRecord) => void,
  ) {}

  record({ id, bytes, bundleId }: Known): void {
    if (bundleId !== id) return;
    const now = performance.now();
    if (now - (this.lookedAt.get(id) ?? Number.NEGATIVE_INFINITY) < AGAIN_MS) return;
    this.lookedAt.set(id, now);
    let record: ConnectionRecord;
    try {
      record = decodeRecord(bytes);
    } catch {
      return; // of a later version, for instance: whoever has to take it over says so
    }
    if (record.serverId !== this.serverId) this.foresee(record);
  }

  removed(id: string): void {
    this.lookedAt.delete(id);
  }
}
