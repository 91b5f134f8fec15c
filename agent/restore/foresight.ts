import { type ConnectionRecord, decodeRecord } from "../../proto/record.js";
import type { Foreseen } from "../protocols/application.js";
import type { Known } from "./known_records.js";

/** What is played changes seldom, and a record is written ten times a second and more. */
const AGAIN_MS = 5_000;
/** `nothing`: again after this. `unready`, because this server has not read its content yet, or never can: after this, and then twice that each time. */
const SOON_MS = 500;

interface Look {
  /** Process time, milliseconds. */
  nextAt: number;
  pauseMs: number;
}

/**
 * Looks at the records of control connections that other servers have: their layers here may get ready what they would need to go on, and what is
 * not made in the moment of a takeover keeps nobody waiting.
 */
export class Foresight {
  /** By connection. */
  private readonly looks = new Map<string, Look>();

  /** @param foresee never rejects */
  constructor(
    private readonly serverId: string,
    private readonly foresee: (record: ConnectionRecord) => Promise<Foreseen>,
  ) {}

  record({ id, bytes, bundleId }: Known): void {
    if (bundleId !== id) return;
    const now = performance.now();
    const look = this.looks.get(id) ?? { nextAt: 0, pauseMs: SOON_MS };
    if (now < look.nextAt) return;
    look.nextAt = now + AGAIN_MS;
    this.looks.set(id, look);
    let record: ConnectionRecord;
    try {
      record = decodeRecord(bytes);
    } catch {
      return; // of a later version, for instance: whoever has to take it over says so
    }
    if (record.serverId !== this.serverId) void this.look(record, look);
  }

  removed(id: string): void {
    this.looks.delete(id);
  }

  private async look(record: ConnectionRecord, look: Look): Promise<void> {
    const foreseen = await this.foresee(record);
    if (foreseen !== "unready") look.pauseMs = SOON_MS;
    if (foreseen === "ready") return;
    look.nextAt = performance.now() + look.pauseMs;
    if (foreseen === "unready") look.pauseMs = Math.min(AGAIN_MS, 2 * look.pauseMs);
  }
}
