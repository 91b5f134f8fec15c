import { read } from "node:fs";
import { promisify } from "node:util";
import { type DirectoryContent, type Found, identityKey } from "../../content/index.js";
import { Indexer, MediaError, type Movie, type Read } from "../../media/index.js";
import type { OpenObject } from "../application.js";

const readAsync = promisify(read);
/** Of indexes that nobody uses at the moment, bytes: the last used ones are kept. An hour of film has some 7 million. */
const KEPT_BYTES = 64 * 2 ** 20;
/** Of one that is kept, beside its samples; and of a failure. */
const ENTRY_BYTES = 4_096;
/** Why a film cannot be indexed is remembered for so long, so that it is no burden each time it is asked for. */
const FAILED_MS = 600_000;

/** A media file that is open, and its index. */
export interface Film {
  objectId: string;
  /** "" while it is pending. */
  validator: string;
  pending?: Promise<string>;
  movie: Movie;
  read: Read;
  /** The file, held once more. */
  hold(): OpenObject;
  close(): void;
}

/** What is named by its validator in records gets it, now or as soon as it is known. */
export function validate(named: { validator: string }, { validator, pending }: Film): void {
  named.validator ||= validator;
  pending?.then(
    (made) => {
      named.validator ||= made;
    },
    () => {}, // whoever plays it says so
  );
}

/** The index of one content, or why there is none. */
interface Entry {
  movie: Promise<Movie>;
  bytes: number;
  users: number;
  failedAt: number | undefined;
}

/** The media files of a directory. The index of a content is made once for all who play it. */
export class Films {
  private readonly entries = new Map<string, Entry>();

  constructor(
    private readonly content: Pick<DirectoryContent, "find" | "openObject" | "takeObject" | "hold">,
    private readonly indexer: Pick<Indexer, "index"> = new Indexer(),
    private readonly keptBytes = KEPT_BYTES,
  ) {}

  /** @returns undefined where there is no such file. Throws MediaError where it is none that could be played; a BatonError where that cannot be said now. */
  async find(segments: readonly string[]): Promise<Film | undefined> {
    const found = segments.length === 0 ? undefined : await this.content.find(segments, false);
    return found === undefined || found === "directory" ? undefined : this.open(found);
  }

  /** One that a record names. Throws RefusedError as DirectoryContent.openObject; else as `find`. */
  async again(objectId: string, validator: string): Promise<Film> {
    const file = await this.content.openObject({ objectId, validator, objectOffset: 0, length: 0 });
    return this.open({ objectId, validator, file });
  }

  /** One that this server's former process had open: that very content, whatever its name leads to by now. Throws as `find`. */
  async take(objectId: string, validator: string, fd: number): Promise<Film> {
    const found = await this.content.takeObject(objectId, fd);
    return this.open(validator === "" ? found : { objectId, validator, file: found.file });
  }

  private async open({ objectId, validator, pending, file }: Found): Promise<Film> {
    const readFile: Read = async (position, length) => {
      const { bytesRead, buffer } = await readAsync(file.fd, Buffer.allocUnsafe(length), 0, length, position);
      return buffer.subarray(0, bytesRead);
    };
    const entry = this.entry(identityKey(file.identity), file);
    let isOpen = true;
    const close = () => {
      if (!isOpen) return;
      isOpen = false;
      entry.users--;
      file.close();
      this.trim();
    };
    entry.users++;
    try {
      const movie = await entry.movie;
      const hold = () => this.content.hold(file);
      return { ...{ objectId, validator, movie, read: readFile, hold, close }, ...(pending ? { pending } : {}) };
    } catch (error) {
      close();
      throw error;
    }
  }

  /** @param file stays open until its index is there */
  private entry(key: string, { fd, size }: Found["file"]): Entry {
    const { entries } = this;
    const present = entries.get(key);
    entries.delete(key);
    const { failedAt = Number.POSITIVE_INFINITY } = present ?? {};
    if (present && performance.now() - failedAt < FAILED_MS) {
      entries.set(key, present); // as the last one
      return present;
    }
    const movie = this.indexer.index(fd, size);
    const entry: Entry = { movie, bytes: ENTRY_BYTES, users: 0, failedAt: undefined };
    entries.set(key, entry);
    movie.then(
      ({ tracks }) => {
        for (const { samples } of tracks) entry.bytes += samples.bytes;
        this.trim();
      },
      (error) => {
        if (error instanceof MediaError) entry.failedAt = performance.now();
        else if (entries.get(key) === entry) entries.delete(key); // the next time it may go well
      },
    );
    return entry;
  }

  private trim(): void {
    const idle = [...this.entries].filter(([, { users }]) => users === 0);
    let bytes = idle.reduce((sum, [, entry]) => sum + entry.bytes, 0);
    for (const [key, entry] of idle) {
      if (bytes <= this.keptBytes) return;
      this.entries.delete(key);
      bytes -= entry.bytes;
    }
  }
}
