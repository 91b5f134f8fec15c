import type { RtspRange } from "../../../proto/sections.js";
import type { Film } from "./films.js";
import type { FramedPlayer } from "./framed_player.js";

/** Not acknowledged to their end: whoever does not read may not ask for more. */
const PAST_MAX = 8;

/**
 * Ranges that went over the connection itself and were left. They send no more, but until the client has all that they promised it may
 * be needed again, and with it their films: one is open until the last of its ranges goes.
 */
export class PastRanges {
  private readonly filmOf = new Map<FramedPlayer, Film>();

  get players(): FramedPlayer[] {
    return [...this.filmOf.keys()];
  }
  /** One for each of them. */
  get films(): Film[] {
    return [...this.filmOf.values()];
  }
  get areTooMany(): boolean {
    return this.filmOf.size >= PAST_MAX;
  }
  get validators(): string[] {
    return this.players.map(({ playback }) => playback.range.validator);
  }

  add(player: FramedPlayer, film: Film): void {
    this.filmOf.set(player, film);
  }

  has(film: Film): boolean {
    return this.films.includes(film);
  }

  /** Lets go of those of which nothing is needed any more. @param playing a film that is needed on */
  release(playing: Film | undefined): void {
    for (const [player, film] of [...this.filmOf]) {
      if (player.isHeld) continue;
      this.filmOf.delete(player);
      if (film !== playing && !this.has(film)) film.close();
    }
  }

  /** As records have them. @param told the client has everything of our stream below */
  checkpoint(told: number): RtspRange[] {
    return this.players.map((player) => player.checkpoint(told));
  }
}
