import type { RtspRange } from "../../../proto/sections.js";
import type { ResponsePiece } from "../application.js";
import type { Mark, Playback } from "./playback.js";

/** Sends one range, at its pace. */
export interface Player {
  readonly playback: Playback;
  /** Another server has begun the range, and may have sent some of what comes next. */
  unsure: boolean;
  /** Behind what was promised or sent: where it could go on. */
  readonly sent: Mark;
  /** How much of the range is due, microseconds from its start; goes on where nothing is sent. */
  readonly elapsedUs: number;
  /** Makes what goes right behind the answer to PLAY. @returns promises it, at that offset of our stream */
  begin(): Promise<(offset: number) => ResponsePiece[]>;
  /** It is about to go on here, and may not send yet: gets what it will send first. Missing: nothing is to be got. */
  prepare?(): void;
  /** Goes on until it is stopped, or the range ends. @param isStored the store has the range as it is here */
  go(isStored?: boolean): void;
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
