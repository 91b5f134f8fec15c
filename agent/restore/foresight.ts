import { type ConnectionRecord, decodeRecord } from "../../proto/record.js";
import type { Known } from "./known_records.js";

/** What is played changes seldom, and a record is written ten times a second. */
const AGAIN_MS = 5_000;
/** Where nothing could be got ready, for instance because this server has not read its content yet. */
const SOON_MS = 500;

/**
 * Looks at the records of control connections that other servers have: their layers here may get ready what they would need to go on, and what is
 * not made in the moment of a takeover keeps nobody waiting.
 */
export class Foresight {
  /** By connection; process time, milliseconds. */
  private readonly nextAt = new Map<string, number>();

  /** @param foresee may do nothing. Resolves with whether it is ready now, or nothing had to be; never rejects */
  constructor(
    private readonly serverId: string,
    private readonly foresee: (record: ConnectionRecord) => Promise<boolean>,
  ) {}

  record({ id, bytes, bundleId }: Known): void {
    if (bundleId !== id) return;
    const now = performance.now();
    if (now < (this.nextAt.get(id) ?? 0)) return;
    this.nextAt.set(id, now + AGAIN_MS);
    let record: ConnectionRecord;
    try {
      record = decodeRecord(bytes);
    } catch {
      return; // of a later version, for instance: whoever has to take it over says so
    }
    if (record.serverId !== this.serverId) void this.look(record);
  }

  removed(id: string): void {
    this.nextAt.delete(id);
  }

  private async look(record: ConnectionRecord): Promise<void> {
    if (await this.foresee(record)) return;
    if (this.nextAt.has(record.id)) this.nextAt.set(record.id, performance.now() + SOON_MS);
  }
}
