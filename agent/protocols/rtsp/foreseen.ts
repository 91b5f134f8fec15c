import { logger } from "../../../proto/log.js";
import type { LayerSection } from "../../../proto/record.js";
import { decodeRtspSection } from "../../../proto/sections.js";
import type { Foreseen, OpenObject } from "../application.js";
import type { Films } from "./films.js";

const log = logger("rtsp");
/** Films at a time; of more the one that was seen longest ago is closed. */
const HELD_MAX = 256;
/** Longer than until the next look at who plays it. */
const HELD_MS = 15_000;

interface Held {
  file: OpenObject;
  timer: NodeJS.Timeout;
}

/**
 * The films that other servers' sessions play: indexed, as far as there is room for indexes, and open. An index takes longer to make than all the
 * rest of a takeover, and on a busy machine even to open a file takes as long as that rest.
 */
export class ForeseenFilms {
  /** By content, the one that was seen last behind the others. */
  private readonly held = new Map<string, Held>();

  constructor(
    private readonly films: Pick<Films, "again">,
    private readonly heldMs = HELD_MS,
  ) {}

  /** @param section of a record. Never rejects */
  async foresee(section: LayerSection): Promise<Foreseen> {
    try {
      const { session } = decodeRtspSection(section);
      if (!session) return "nothing";
      if (session.validator === "") return "unready"; // whoever made it anew could not compare it
      const { objectId, validator } = session;
      const film = await this.films.again(objectId, validator);
      this.hold(`${validator} ${objectId}`, film.hold());
      film.close();
      return "ready";
    } catch (error) {
      log.debug({ err: error }, "what another server plays could not be gone on with here");
      return "unready";
    }
  }

  private hold(key: string, file: OpenObject): void {
    this.letGo(key);
    const [oldest] = this.held.keys();
    if (oldest !== undefined && this.held.size >= HELD_MAX) this.letGo(oldest);
    const timer = setTimeout(() => this.letGo(key), this.heldMs).unref();
    this.held.set(key, { file, timer });
  }

  private letGo(key: string): void {
    const held = this.held.get(key);
    if (!held) return;
    this.held.delete(key);
    clearTimeout(held.timer);
    held.file.close();
  }
}
