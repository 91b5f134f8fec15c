/** What happened to a connection on this server, for `baton connection ID`; the newest entries, bounded. */

import { wallClockUs } from "../../proto/clock.js";

const ENTRIES_MAX = 128;

export interface HistoryEntry {
  timeUs: number; // Unix time, microseconds
  what: string;
  layer: string; // "" = the whole connection
  detail: string;
}

export class History {
  private readonly kept: HistoryEntry[] = [];

  add(what: string, layer = "", detail = ""): void {
    if (this.kept.length >= ENTRIES_MAX) this.kept.splice(1, 1); // the first, its birth, stays
    this.kept.push({ timeUs: wallClockUs(), what, layer, detail });
  }

  get entries(): readonly HistoryEntry[] {
    return this.kept;
  }
}
