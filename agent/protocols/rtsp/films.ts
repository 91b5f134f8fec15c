import { read } from "node:fs";
import { promisify } from "node:util";
import { type DirectoryContent, type Found, identityKey } from "../../content/index.js";
import { type Movie, type Read, readMovie } from "../../media/index.js";

const readAsync = promisify(read);
/** Indexes that are kept, the last used ones. */
const KEPT_MAX = 64;

/** A media file that is open, and its index. */
export interface Film {
  objectId: string;
  /** "" while it is pending. */
  validator: string;
  pending?: Promise<string>;
  movie: Movie;
  read: Read;
  close(): void;
}

/** The media files of a directory. The index of a content is made once for all who play it. */
export class Films {
  private readonly movies = new Map<string, Promise<Movie>>();

  constructor(private readonly content: Pick<DirectoryContent, "find" | "openObject">) {}

  /** @returns undefined where there is no such file. Throws MediaError where it is none that could be played. */
  async find(segments: readonly string[]): Promise<Film | undefined> {
    const found = segments.length === 0 ? undefined : await this.content.find(segments, false);
    return found === undefined || found === "directory" ? undefined : this.open(found);
  }

  /** One that a record names. Throws RefusedError as DirectoryContent.openObject; MediaError. */
  async again(objectId: string, validator: string): Promise<Film> {
    const file = await this.content.openObject({ objectId, validator, objectOffset: 0, length: 0 });
    return this.open({ objectId, validator, file });
  }

  private async open({ objectId, validator, pending, file }: Found): Promise<Film> {
    const readFile: Read = async (position, length) => {
      const { bytesRead, buffer } = await readAsync(file.fd, Buffer.allocUnsafe(length), 0, length, position);
      return buffer.subarray(0, bytesRead);
    };
    try {
      const movie = await this.movie(identityKey(file.identity), readFile, file.size);
      return {
        ...{ objectId, validator, movie, read: readFile, close: () => file.close() },
        ...(pending ? { pending } : {}),
      };
    } catch (error) {
      file.close();
      throw error;
    }
  }

  private movie(key: string, readFile: Read, size: number): Promise<Movie> {
    const { movies } = this;
    const movie = movies.get(key) ?? readMovie(readFile, size);
    movies.delete(key);
    movies.set(key, movie); // as the last one
    movie.catch(() => movies.delete(key));
    for (const oldest of movies.keys()) {
      if (movies.size <= KEPT_MAX) break;
      movies.delete(oldest);
    }
    return movie;
  }
}
