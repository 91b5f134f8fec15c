import type { Phase } from "./vocabulary.js";

/**
 * The one state machine of a connection (the table in ARCHITECTURE.md):
 *
 *   LIVE ── HELD ── FROZEN ── UNREADY ── READY ── LIVE      planned, the old server is alive
 *            └────────────────── UNREADY ── READY ── LIVE    takeover, it is gone
 *   every phase has one error exit: RESUMED_ON_OLD (undone) or REFUSED (exact reset)
 */

const legal: Record<Phase, readonly Phase[]> = {
  LIVE: ["HELD"],
  HELD: ["FROZEN", "UNREADY", "RESUMED_ON_OLD", "REFUSED"],
  FROZEN: ["UNREADY", "RESUMED_ON_OLD", "REFUSED"],
  UNREADY: ["READY", "RESUMED_ON_OLD", "REFUSED"],
  READY: ["LIVE", "UNREADY", "REFUSED"], // UNREADY again: late data of the dead server, probed once more
  RESUMED_ON_OLD: ["LIVE"],
  REFUSED: [],
};

let illegal = 0;
/** Transitions that the table does not have, since the start; should stay 0. */
export function illegalTransitions(): number {
  return illegal;
}

export function isLegal(from: Phase, to: Phase): boolean {
  return legal[from].includes(to);
}

/** One connection's phase. An illegal transition is counted and not made. */
export class PhaseMachine {
  constructor(private now: Phase) {}

  get phase(): Phase {
    return this.now;
  }

  /** @returns whether it was made. */
  move(to: Phase): boolean {
    if (!isLegal(this.now, to)) {
      illegal++;
      return false;
    }
    this.now = to;
    return true;
  }
}
