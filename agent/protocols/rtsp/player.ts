import type { RtspRange } from "../../../proto/sections.js";
import type { ResponsePiece } from "../application.js";
import type { Playback } from "./playback.js";

/** Sends one range, at its pace. */
export interface Player {
  readonly playback: Playback;
  /** Makes what goes right behind the answer to PLAY. @returns promises it, at that offset of our stream */
  begin(): Promise<(offset: number) => ResponsePiece[]>;
  /**
   * Goes on until it is stopped, or the range ends.
   * @param recorded whether the range is in a committed record: another server had begun it
   */
  go(recorded: boolean): void;
  /** No more of it. Resolves when what was under way is promised, or sent. */
  stop(): Promise<void>;
  /** @param told the client has everything of our stream below, as records say */
  checkpoint(told: number): RtspRange;
}

/** What a player tells its session. */
export interface PlayerEvents {
  /** Everything has been sent, or, with why, the rest cannot be. */
  ended(error?: Error): void;
}
