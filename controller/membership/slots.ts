import { BatonError } from "../../proto/errors.js";
import { ConflictError, type DocumentBucket, type ServerDocument } from "../../proto/store/index.js";

const slotsMax = 1023;
const deadlineMs = 2_000;
const attemptsMax = 16;

/** What the store has of each server, slot and generation first: the same for every controller, and after every restart. */
export class Slots {
  readonly #bucket: DocumentBucket<ServerDocument>;

  constructor(bucket: DocumentBucket<ServerDocument>) {
    this.#bucket = bucket;
  }

  /**
   * Slot and generation of a server's incarnation. A server keeps its slot; the generation grows by one for each new
   * incarnation, so whoever asks twice, or as another controller, gets the same answer.
   * @param all every configured server: their slots are taken
   * @throws BatonError STORE_UNAVAILABLE, LIMIT_REACHED
   */
  async claim(id: string, incarnation: number, all: string[]): Promise<{ slot: number; generation: number }> {
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const { document, revision } = await this.#bucket.read(id, deadlineMs);
      if (document !== undefined && document.incarnation >= incarnation) return document;
      const slot = document?.slot ?? (await this.#freeSlot(id, all));
      const next = { ...document, id, slot, generation: (document?.generation ?? 0) + 1, incarnation };
      if (await this.#put(next, revision)) return next;
    }
    throw writtenByOthers(id);
  }

  /**
   * Whether an operator has taken the server out of rotation: for every controller, and for all its lives to come.
   * @throws BatonError STORE_UNAVAILABLE, NOT_FOUND where it never was a member
   */
  async remember(id: string, drained: boolean): Promise<void> {
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const { document, revision } = await this.#bucket.read(id, deadlineMs);
      if (document === undefined) throw new BatonError("NOT_FOUND", `${id} has never been a member.`);
      if ((document.drained ?? false) === drained || (await this.#put({ ...document, drained }, revision))) return;
    }
    throw writtenByOthers(id);
  }

  /** @returns whether nobody else was quicker */
  async #put(document: ServerDocument, revision: number): Promise<boolean> {
    try {
      await this.#bucket.put(document.id, document, revision, deadlineMs);
      return true;
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
      return false;
    }
  }

  /** The place in the configuration if it is free, which it is unless the configuration was reordered; else the lowest free. */
  async #freeSlot(id: string, all: string[]): Promise<number> {
    const others = await Promise.all(
      all.filter((other) => other !== id).map((other) => this.#bucket.read(other, deadlineMs)),
    );
    const taken = new Set(others.map(({ document }) => document?.slot));
    const own = all.indexOf(id) + 1;
    if (own > 0 && !taken.has(own)) return own;
    for (let slot = 1; slot <= slotsMax; slot++) {
      if (!taken.has(slot) && (slot > all.length || slot === own)) return slot;
    }
    throw new BatonError("LIMIT_REACHED", `there is no free slot for ${id}`);
  }
}

function writtenByOthers(id: string): BatonError {
  return new BatonError("STORE_FAILED", `the slot of ${id} was written by others ${attemptsMax} times in a row`);
}
