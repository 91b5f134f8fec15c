import { opendir, readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { within } from "../../proto/deadline.js";
import { BatonError, RefusedError } from "../../proto/errors.js";
import type { ObjectReference } from "../../proto/record.js";
import { DigestFile } from "./digest_file.js";
import { Digests, type HashFile } from "./digests.js";
import { type ContentFile, Files } from "./files.js";
import type { FileIdentity } from "./identity.js";

/** Files whose digests are made ahead of the first request. */
const WARM_UP_MAX = 100_000;
const WARM_UP_DEPTH_MAX = 32;
/** How long a takeover waits for a digest that this server has not made yet. */
const DIGEST_WAIT_MS = 3_000;

export interface DirectoryOptions {
  directory: string;
  /** sha256: the content itself. mtime+size: for operators who replicate with preserved times. */
  validator: "sha256" | "mtime+size";
  hashFile: HashFile;
  /** Where digests are kept across restarts. */
  digestFile?: string;
  /** For tests. */
  digestWaitMs?: number;
}

/** A file that was found for a path. The caller owns `file`. */
export interface Found {
  /** Path below the directory, with a leading slash; names the object in records. */
  objectId: string;
  file: ContentFile;
  /** Strong; "" while the digest is pending. */
  validator: string;
  /** While it is pending: the validator to come. Rejects with a BatonError. */
  pending?: Promise<string>;
}

export interface WarmUpProgress {
  files: number;
  finished: number;
  /** Files without a digest after all (unreadable, changed meanwhile). */
  failed: number;
  done: boolean;
}

/** Serves one directory: finds files safely below it, opens them, tells by strong validators whether content is the same. */
export class DirectoryContent {
  private readonly files: Files;
  private readonly digests: Digests;
  private readonly progressNow: WarmUpProgress = { files: 0, finished: 0, failed: 0, done: false };
  private warmUp: Promise<void> | undefined;
  private closed = false;

  private constructor(
    private readonly options: DirectoryOptions,
    private readonly root: string,
  ) {
    this.files = new Files(root);
    this.digests = new Digests(options.hashFile, options.digestFile ? new DigestFile(options.digestFile) : undefined);
  }

  /** Throws CONTENT_UNAVAILABLE. */
  static async open(options: DirectoryOptions): Promise<DirectoryContent> {
    try {
      const root = await realpath(options.directory);
      if (!(await stat(root)).isDirectory()) throw new Error("it is not a directory");
      await readdir(root);
      return new DirectoryContent(options, root === "/" ? "" : root);
    } catch (error) {
      const why = (error as NodeJS.ErrnoException).code === "ENOENT" ? "it does not exist" : (error as Error).message;
      throw new BatonError("CONTENT_UNAVAILABLE", `content directory ${options.directory}: ${why}`, error);
    }
  }

  /** Descriptors open for content. */
  get openCount(): number {
    return this.files.openCount;
  }

  get progress(): WarmUpProgress {
    return { ...this.progressNow };
  }

  /** Starts to make the digests of what is there now, in the background; resolves (never rejects) when they are made. */
  get ready(): Promise<void> {
    this.warmUp ??= this.options.validator === "sha256" ? this.warm() : Promise.resolve();
    return this.warmUp.then(() => {
      this.progressNow.done = true;
    });
  }

  /** Rejects, with a phrase, where the directory cannot be read now. */
  async health(): Promise<void> {
    try {
      const directory = await opendir(this.root || "/");
      await directory.read().finally(() => directory.close());
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new Error(
        `its directory ${this.root || "/"} ${code === "ENOENT" ? "does not exist" : `cannot be read (${code})`}`,
      );
    }
  }

  /** Ends the warm-up. Open files stay open until their owners close them. */
  close(): void {
    this.closed = true;
  }

  /**
   * The file for a decoded path, `index.html` for a directory that is named with its trailing slash.
   * @param segments path without "", "." and ".."; no segment contains a slash or a NUL.
   * @returns "directory" where only the trailing slash is missing; undefined where there is nothing.
   */
  async find(segments: readonly string[], trailingSlash: boolean): Promise<Found | "directory" | undefined> {
    const path = segments.map((segment) => `/${segment}`).join("");
    const found = await this.files.lookUp(path);
    if (found.kind === "file" && !trailingSlash) return this.describe(path, found.file);
    if (found.kind === "file") found.file.close();
    if (found.kind !== "directory") return undefined;
    const index = `${path}/index.html`;
    const inside = await this.files.lookUp(index);
    if (inside.kind !== "file") return undefined;
    if (trailingSlash) return this.describe(index, inside.file);
    inside.file.close();
    return "directory";
  }

  /**
   * Opens an object that a record names, for going on with it. Throws RefusedError: "object missing", "object changed",
   * "digest pending", "validator not accepted".
   */
  async openObject(reference: ObjectReference): Promise<ContentFile> {
    const { objectId, validator } = reference;
    if (validator === "") throw new RefusedError("digest pending", `no validator is known of ${objectId}`);
    const found = isObjectId(objectId) ? await this.files.lookUp(objectId) : undefined;
    if (found?.kind !== "file") throw new RefusedError("object missing", `${objectId} is not here`);
    const { file } = found;
    try {
      const present = await this.validatorLike(validator, file);
      if (present !== validator || reference.objectOffset + reference.length > file.size) {
        throw new RefusedError("object changed", `${objectId} is ${present} here, not ${validator}`);
      }
      return file;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** One more use of a file that was found; to be closed by itself. */
  hold(file: ContentFile): ContentFile {
    return this.files.hold(file);
  }

  /** An object that another process of this server had open: that very content, with its validator as for a file that was found. */
  async takeObject(objectId: string, fd: number): Promise<Found> {
    return this.describe(objectId, await this.files.take(fd));
  }

  /** The file's validator of the same kind as the given one. */
  private async validatorLike(validator: string, file: ContentFile): Promise<string> {
    const kind = validator.slice(0, validator.indexOf(":"));
    if (kind === "mtime+size" && this.options.validator === "mtime+size") return timesValidator(file.identity);
    if (kind !== "sha256") throw new RefusedError("validator not accepted", `this server does not go by ${kind}`);
    const known = this.digests.of(file.identity);
    if (known) return sha256Validator(known);
    const waitMs = this.options.digestWaitMs ?? DIGEST_WAIT_MS;
    try {
      const late = () => new RefusedError("digest pending", "this server has not read the object yet");
      return sha256Validator(await within(waitMs, this.digest(file, true), late));
    } catch (error) {
      if (error instanceof RefusedError) throw error;
      const changed = error instanceof BatonError && error.code === "CONTENT_CHANGED";
      throw new RefusedError(changed ? "object changed" : "digest pending", (error as Error).message, error);
    }
  }

  private describe(objectId: string, file: ContentFile): Found {
    if (this.options.validator === "mtime+size") return { objectId, file, validator: timesValidator(file.identity) };
    const known = this.digests.of(file.identity);
    if (known) return { objectId, file, validator: sha256Validator(known) };
    const pending = this.digest(file, true).then(sha256Validator);
    pending.catch(() => {}); // whoever needs it waits for it; nobody has to
    return { objectId, file, validator: "", pending };
  }

  /** The digest of an open file, whatever its name leads to by now; keeps it open meanwhile. */
  private digest(file: ContentFile, urgent: boolean): Promise<string> {
    const held = this.files.hold(file);
    return this.digests.compute(file.identity, `/proc/self/fd/${held.fd}`, urgent).finally(() => held.close());
  }

  private async warm(): Promise<void> {
    const progress = this.progressNow;
    for await (const path of this.walk("", 0)) {
      if (this.closed || progress.files >= WARM_UP_MAX) return;
      progress.files++;
      try {
        const found = await this.files.lookUp(path);
        if (found.kind !== "file") continue;
        await this.digest(found.file, false).finally(() => found.file.close());
      } catch {
        progress.failed++;
      } finally {
        progress.finished++;
      }
    }
  }

  /** Paths of what may be files; symbolic links to directories are not followed. */
  private async *walk(path: string, depth: number): AsyncGenerator<string> {
    const entries = await readdir(join(this.root || "/", path), { withFileTypes: true }).catch(() => []);
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const below = `${path}/${entry.name}`;
      if (!entry.isDirectory()) yield below;
      else if (depth < WARM_UP_DEPTH_MAX) yield* this.walk(below, depth + 1);
    }
  }
}

function sha256Validator(digest: string): string {
  return `sha256:${digest}`;
}

function timesValidator({ mtimeNs, size }: FileIdentity): string {
  return `mtime+size:${mtimeNs}-${size}`;
}

/** Whether a record's object id is one that `find` could have made: nothing in it may lead elsewhere. */
function isObjectId(objectId: string): boolean {
  const [root, ...segments] = objectId.split("/");
  const plain = (segment: string) => segment !== "" && segment !== "." && segment !== ".." && !segment.includes("\0");
  return root === "" && segments.length > 0 && segments.every(plain);
}
