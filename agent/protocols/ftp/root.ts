import { isUtf8 } from "node:buffer";
import {
  type BigIntStats,
  close,
  constants,
  fstat,
  fsync,
  lstat,
  mkdir,
  open,
  opendir,
  rename,
  rmdir,
  unlink,
} from "node:fs";
import { promisify } from "node:util";
import { BatonError } from "../../../proto/errors.js";
import { type FileIdentity, identityOf } from "../../content/identity.js";
import type { OpenObject } from "../application.js";
import type { Entry } from "./listing.js";
import { isName, isPath, nameOf, segmentsOf } from "./path.js";

const openAsync = promisify(open);
const closeAsync = promisify(close);
const fsyncAsync = promisify(fsync);
const mkdirAsync = promisify(mkdir);
const rmdirAsync = promisify(rmdir);
const unlinkAsync = promisify(unlink);
const renameAsync = promisify(rename);
// Node's types know no directory whose names are bytes.
const opendirAsync = promisify(opendir) as unknown as (
  path: string,
  options: { encoding: "buffer"; bufferSize: number },
) => Promise<AsyncIterable<{ name: Buffer }>>;
const lstatAsync: (path: string) => Promise<BigIntStats> = (path) => promisify(lstat)(path, { bigint: true });
const fstatAsync: (fd: number) => Promise<BigIntStats> = (fd) => promisify(fstat)(fd, { bigint: true });

const { O_RDONLY, O_WRONLY, O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY } = constants;
const DIRECTORY = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
/** O_NONBLOCK: a FIFO must not block the thread until somebody opens its other end. */
const FILE = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;

/** What a directory may hold to be listed: all of it is in memory. */
const ENTRIES_MAX = 100_000;
const READ_AHEAD = 256;
/** Looked at together, so that a large directory does not take every thread for long. */
const LOOKS = 32;

const FILE_MODE = 0o644;
const DIRECTORY_MODE = 0o755;

/** Why something cannot be done with a path, as far as a client can be told. */
export type FileFailure =
  | "not found"
  | "denied"
  | "exists"
  | "not empty"
  | "no space"
  | "is a directory"
  | "not a directory"
  /** It has too many entries to be listed. */
  | "too large";

const FAILURES: Record<string, FileFailure> = {
  ENOENT: "not found",
  ENAMETOOLONG: "not found",
  ELOOP: "not found",
  ENXIO: "not found",
  EACCES: "denied",
  EPERM: "denied",
  EROFS: "denied",
  EBUSY: "denied",
  ETXTBSY: "denied",
  EXDEV: "denied",
  EINVAL: "denied", // a directory into itself
  EEXIST: "exists",
  ENOTEMPTY: "not empty",
  ENOSPC: "no space",
  EDQUOT: "no space",
  EFBIG: "no space",
  EISDIR: "is a directory",
  ENOTDIR: "not a directory",
};

export class FileError extends Error {
  constructor(
    readonly failure: FileFailure,
    path: string,
    cause?: unknown,
  ) {
    super(`${path}: ${failure}`, { cause });
    this.name = "FileError";
  }
}

/** The FileError that a failed system call amounts to; others (EIO, EMFILE, ...) as they are: they are this server's matter. */
export function fileError(error: unknown, path: string): unknown {
  const failure = FAILURES[(error as NodeJS.ErrnoException)?.code ?? ""];
  return failure ? new FileError(failure, path, error) : error;
}

/** An open regular file. Whoever asked for it closes it; read and write it by position. */
export interface RootFile extends OpenObject {
  /** When it was opened. */
  readonly identity: FileIdentity;
  readonly size: number;
}

/** Whether the file may be made. "there": it must be there already. */
export type Opening = "made" | "there";

/** A descriptor whose number stays its own until nobody uses it any more. */
interface Held {
  fd: number;
  uses: number;
  closed: boolean;
}

/**
 * The files below one directory. Paths are absolute as `resolvePath` makes them, "/" for the directory itself. They are walked
 * one segment at a time, each from the descriptor of the one before it, and no symbolic link is followed: so none leads out,
 * whoever changes what meanwhile. Links, devices and the like are as if they were not there.
 *
 * Every method throws FileError, or the system's error where it is this server's matter.
 */
export class Root {
  private constructor(
    private readonly held: Held,
    /** Whether it may be changed. */
    readonly writable: boolean,
  ) {}

  /** Throws CONTENT_UNAVAILABLE. Links on the way to the directory itself are followed: they are the operator's. */
  static async open(directory: string, writable: boolean): Promise<Root> {
    try {
      const fd = await openAsync(directory, O_RDONLY | O_DIRECTORY);
      return new Root({ fd, uses: 0, closed: false }, writable);
    } catch (error) {
      throw new BatonError("CONTENT_UNAVAILABLE", `directory ${directory}: ${(error as Error).message}`, error);
    }
  }

  /** What is under way still ends. */
  close(): void {
    this.held.closed = true;
    this.letGo();
  }

  /** A file or directory; `name` is its last segment. */
  stat(path: string): Promise<Entry> {
    return this.at(path, async (place) => {
      const entry = this.entry(nameOf(path), await lstatAsync(place));
      if (!entry) throw new FileError("not found", path);
      return entry;
    });
  }

  /** The files and directories in one, in no order. What a client could not ask for by name is left out. */
  list(path: string): Promise<Entry[]> {
    return this.inDirectory(path, async (directory) => {
      const names = await namesIn(directory, path);
      const entries: Entry[] = [];
      for (let at = 0; at < names.length; at += LOOKS) {
        const looks = names.slice(at, at + LOOKS).map((name) => this.look(directory, name));
        for (const entry of await Promise.all(looks)) if (entry) entries.push(entry);
      }
      return entries;
    });
  }

  /** A file for reading. */
  openRead(path: string): Promise<RootFile> {
    return this.at(path, (place) => openFile(place, path, O_RDONLY));
  }

  /** A file for writing, with what it has. */
  openWrite(path: string, opening: Opening): Promise<RootFile> {
    return this.change(path, (place) => openFile(place, path, O_WRONLY | (opening === "made" ? O_CREAT : 0)));
  }

  mkdir(path: string): Promise<void> {
    return this.change(path, (place) => mkdirAsync(place, DIRECTORY_MODE));
  }

  /** An empty directory. */
  rmdir(path: string): Promise<void> {
    return this.change(path, (place) => rmdirAsync(place));
  }

  /** A file. Of a link, the link itself. */
  unlink(path: string): Promise<void> {
    return this.change(path, (place) => unlinkAsync(place));
  }

  /** A file or directory, also to another directory. A file that has the name goes. */
  rename(from: string, to: string): Promise<void> {
    return this.change(from, (source) => this.change(to, (target) => renameAsync(source, target)));
  }

  /** What was made, renamed or removed in the directory outlives a power failure. Of a file's content, fsync its descriptor. */
  sync(path: string): Promise<void> {
    return this.inDirectory(path, (_directory, fd) => fsyncAsync(fd));
  }

  /** Calls `use` with a path at which a call that follows no link at its end finds the object. */
  private async at<T>(path: string, use: (place: string) => Promise<T>): Promise<T> {
    const segments = segmentsOf(checked(path));
    const name = segments.pop() ?? ".";
    return this.walk(segments, path, (directory) => use(`${directory}/${name}`));
  }

  private async change<T>(path: string, use: (place: string) => Promise<T>): Promise<T> {
    // Nor is the root itself removed, renamed or made.
    if (!this.writable || path === "/") throw new FileError("denied", path);
    return this.at(path, use);
  }

  private async inDirectory<T>(path: string, use: (directory: string, fd: number) => Promise<T>): Promise<T> {
    return this.walk(segmentsOf(checked(path)), path, use);
  }

  private async walk<T>(
    segments: readonly string[],
    path: string,
    use: (directory: string, fd: number) => Promise<T>,
  ): Promise<T> {
    const { held } = this;
    if (held.closed) throw new BatonError("INTERNAL", "a directory is used that was closed");
    held.uses++;
    let fd = held.fd;
    try {
      for (const segment of segments) {
        const next = await openAsync(`/proc/self/fd/${fd}/${segment}`, DIRECTORY);
        if (fd !== held.fd) await closeAsync(fd);
        fd = next;
      }
      return await use(`/proc/self/fd/${fd}`, fd);
    } catch (error) {
      throw fileError(error, path);
    } finally {
      if (fd !== held.fd) await closeAsync(fd);
      held.uses--;
      this.letGo();
    }
  }

  private letGo(): void {
    const { held } = this;
    if (!held.closed || held.uses > 0 || held.fd < 0) return;
    close(held.fd, () => {});
    held.fd = -1;
  }

  /** undefined where it has gone meanwhile, or is neither a file nor a directory. */
  private async look(directory: string, name: string): Promise<Entry | undefined> {
    try {
      return this.entry(name, await lstatAsync(`${directory}/${name}`));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }

  private entry(name: string, stats: BigIntStats): Entry | undefined {
    if (!stats.isFile() && !stats.isDirectory()) return undefined;
    return {
      name,
      isDirectory: stats.isDirectory(),
      size: Number(stats.size),
      mtimeMs: Number(stats.mtimeMs),
      writable: this.writable,
    };
  }
}

/** Names that are not UTF-8 would come back as others. */
async function namesIn(directory: string, path: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of await opendirAsync(directory, { encoding: "buffer", bufferSize: READ_AHEAD })) {
    const text = isUtf8(name) ? name.toString() : "";
    if (isName(text)) names.push(text);
    if (names.length > ENTRIES_MAX) throw new FileError("too large", path);
  }
  return names;
}

async function openFile(place: string, path: string, flags: number): Promise<RootFile> {
  const fd = await openAsync(place, flags | FILE, FILE_MODE);
  let kept = false;
  try {
    const stats = await fstatAsync(fd);
    if (stats.isDirectory()) throw new FileError("is a directory", path);
    if (!stats.isFile()) throw new FileError("not found", path);
    const identity = identityOf(stats);
    kept = true;
    return { fd, identity, size: identity.size, close: once(() => close(fd, () => {})) };
  } finally {
    if (!kept) await closeAsync(fd);
  }
}

function checked(path: string): string {
  if (!isPath(path)) throw new FileError("not found", path);
  return path;
}

function once(what: () => void): () => void {
  let done = false;
  return () => {
    if (!done) what();
    done = true;
  };
}
