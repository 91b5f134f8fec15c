import type { LiveConnection } from "../../proto/rpc/index.js";

/** A connection as the policy weighs it. */
export interface Candidate {
  id: string;
  /** Bytes a second that it sends; 0: idle. */
  rate: number;
  /** It has a record, and is not on its way already. */
  movable: boolean;
}

interface Sample {
  atMs: number;
  bytes: number;
}

/** What connections send, from two looks at them. */
export class Rates {
  private before = new Map<string, Sample>();

  /**
   * Everything that one server has now. A client may read in bursts with seconds between them, so what has something
   * outstanding counts with its average at least.
   */
  look(atMs: number, connections: LiveConnection[]): Candidate[] {
    const now = new Map<string, Sample>();
    const candidates = connections.map((connection): Candidate => {
      const { id, bytesSent, ageSeconds, outstanding, phase, isProtected } = connection;
      const before = this.before.get(id);
      now.set(id, { atMs, bytes: bytesSent });
      const recent =
        before && atMs > before.atMs ? Math.max(0, bytesSent - before.bytes) / ((atMs - before.atMs) / 1000) : 0;
      const average = outstanding > 0 ? bytesSent / Math.max(1, ageSeconds) : 0;
      return { id, rate: Math.max(recent, average), movable: phase === "LIVE" && isProtected };
    });
    this.before = now;
    return candidates;
  }
}
