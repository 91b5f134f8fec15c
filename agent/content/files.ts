import { type BigIntStats, close, constants, fstat, open, readlink, stat } from "node:fs";
import { promisify } from "node:util";
import { BatonError } from "../../proto/errors.js";
import type { OpenObject } from "../protocols/application.js";
import { type FileIdentity, identityKey, identityOf } from "./identity.js";

const openAsync = promisify(open);
const closeAsync = promisify(close);
const readlinkAsync = promisify(readlink);
const statAsync: (path: string) => Promise<BigIntStats> = (path) => promisify(stat)(path, { bigint: true });
const fstatAsync: (fd: number) => Promise<BigIntStats> = (fd) => promisify(fstat)(fd, { bigint: true });

/** Nothing of that name that could be served. Other errors (EMFILE, EIO, ...) are thrown as they are. */
const ABSENT = new Set(["ENOENT", "ENOTDIR", "ENAMETOOLONG", "ELOOP", "EACCES", "ENXIO"]);

export type Lookup = { kind: "file"; file: ContentFile } | { kind: "directory" } | { kind: "absent" };

/** An open regular file. Its descriptor is shared with whoever has the same content open; read it by position only. */
export interface ContentFile extends OpenObject {
  readonly identity: FileIdentity;
  readonly size: number;
}

interface Shared {
  fd: number;
  users: number;
}

/** Opens files below a directory, each content once: with thousands of downloads of one file, one descriptor. */
export class Files {
  private readonly shared = new Map<string, Shared>();
  private readonly looking = new Map<string, Promise<BigIntStats>>();

  /** @param root real path of the directory, without a trailing slash. */
  constructor(private readonly root: string) {}

  /** How many descriptors are open. */
  get openCount(): number {
    return this.shared.size;
  }

  /** @param path below the root, with a leading slash; free of "." and "..". */
  async lookUp(path: string): Promise<Lookup> {
    try {
      const stats = await this.stat(this.root + path);
      if (stats.isDirectory()) return { kind: "directory" };
      if (!stats.isFile()) return { kind: "absent" };
      const present = this.share(identityOf(stats));
      return present ? { kind: "file", file: present } : await this.open(this.root + path);
    } catch (error) {
      if (ABSENT.has((error as NodeJS.ErrnoException).code ?? "")) return { kind: "absent" };
      throw error;
    }
  }

  /** A descriptor that another process had of a file, whatever the file's name leads to by now; it is this one's from now on. */
  async take(fd: number): Promise<ContentFile> {
    const identity = identityOf(await fstatAsync(fd));
    const present = this.share(identity);
    if (present) {
      await closeAsync(fd);
      return present;
    }
    this.shared.set(identityKey(identity), { fd, users: 0 });
    return this.share(identity) as ContentFile;
  }

  /** One more use of a file that is open; to be closed by itself. */
  hold(file: ContentFile): ContentFile {
    const held = this.share(file.identity);
    if (!held) throw new BatonError("INTERNAL", "a file is held that nobody has open");
    return held;
  }

  private async open(path: string): Promise<Lookup> {
    // O_NONBLOCK: a FIFO that has come in between must not block the thread.
    const fd = await openAsync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    let kept = false;
    try {
      const stats = await fstatAsync(fd);
      // The descriptor itself says where it leads, whatever symbolic links were on the way and whoever changes them.
      const target = await readlinkAsync(`/proc/self/fd/${fd}`);
      if (!stats.isFile() || !target.startsWith(`${this.root}/`)) return { kind: "absent" };
      const identity = identityOf(stats);
      const present = this.share(identity);
      if (present) return { kind: "file", file: present };
      kept = true;
      this.shared.set(identityKey(identity), { fd, users: 0 });
      return { kind: "file", file: this.share(identity) as ContentFile };
    } finally {
      if (!kept) await closeAsync(fd);
    }
  }

  /** One look for all who ask at the same time: a takeover may need one file for thousands of connections. */
  private stat(path: string): Promise<BigIntStats> {
    const present = this.looking.get(path);
    if (present) return present;
    const look = statAsync(path).finally(() => this.looking.delete(path));
    this.looking.set(path, look);
    return look;
  }

  /** One more user of a content that is open already. */
  private share(identity: FileIdentity): ContentFile | undefined {
    const key = identityKey(identity);
    const entry = this.shared.get(key);
    if (!entry) return undefined;
    entry.users++;
    let closed = false;
    return {
      fd: entry.fd,
      size: identity.size,
      identity,
      close: () => {
        if (closed) return;
        closed = true;
        if (--entry.users > 0) return;
        this.shared.delete(key);
        close(entry.fd, () => {});
      },
    };
  }
}
