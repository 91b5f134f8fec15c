import { BatonError } from "../../proto/errors.js";
import type { DigestFile } from "./digest_file.js";
import { type FileIdentity, identityKey } from "./identity.js";

/** Native.hashFile: SHA-256 (hex) of a file with the identity it had, or a rejection where it changed meanwhile. */
export type HashFile = (path: string) => Promise<FileIdentity & { sha256: string }>;

/** Digests remembered; the oldest unused go first. About 200 bytes each. */
const REMEMBERED_MAX = 65_536;
/** Files waiting for their digest because somebody asked; more are not protected. */
const WAITING_MAX = 1_024;
/** Files read at a time: one core's worth, low priority. */
const PARALLEL = 2;

interface Job {
  key: string;
  path: string;
  settle(result: string | BatonError): void;
}

/** SHA-256 of files' content, computed in the background, remembered by identity. */
export class Digests {
  private readonly known = new Map<string, string>();
  private readonly pending = new Map<string, Promise<string>>();
  private readonly asked: Job[] = [];
  private readonly idle: Job[] = [];
  private running = 0;

  /** @param file keeps them across restarts. */
  constructor(
    private readonly hashFile: HashFile,
    private readonly file?: DigestFile,
  ) {
    file?.load((key, digest) => this.remember(key, digest));
  }

  /** The digest if it is known: 64 hexadecimal digits. */
  of(identity: FileIdentity): string | undefined {
    const key = identityKey(identity);
    const digest = this.known.get(key);
    if (digest) {
      this.known.delete(key);
      this.known.set(key, digest);
    }
    return digest;
  }

  /**
   * The digest as soon as it is known. Rejects with CONTENT_CHANGED, CONTENT_UNAVAILABLE or, while too many wait, LIMIT_REACHED.
   * @param path must lead to this very file until the promise settles.
   * @param urgent somebody waits for it; else it is computed when nothing urgent is left.
   */
  compute(identity: FileIdentity, path: string, urgent: boolean): Promise<string> {
    const key = identityKey(identity);
    const known = this.of(identity);
    if (known) return Promise.resolve(known);
    const queue = urgent ? this.asked : this.idle;
    const present = this.pending.get(key);
    if (present) {
      const waits = urgent ? this.idle.findIndex((job) => job.key === key) : -1;
      if (waits >= 0) queue.push(...this.idle.splice(waits, 1));
      return present;
    }
    if (queue.length >= WAITING_MAX) {
      return Promise.reject(new BatonError("LIMIT_REACHED", `${WAITING_MAX} files wait for their digest already`));
    }
    const promise = new Promise<string>((resolve, reject) => {
      queue.push({
        key,
        path,
        settle: (result) => {
          this.pending.delete(key);
          if (typeof result !== "string") return reject(result);
          this.remember(key, result);
          this.file?.add(key, result);
          resolve(result);
        },
      });
    });
    this.pending.set(key, promise);
    this.next();
    return promise;
  }

  private next(): void {
    while (this.running < PARALLEL) {
      const job = this.asked.shift() ?? this.idle.shift();
      if (!job) return;
      this.running++;
      void this.run(job).then((result) => {
        this.running--;
        job.settle(result);
        this.next();
      });
    }
  }

  private async run({ key, path }: Job): Promise<string | BatonError> {
    try {
      const result = await this.hashFile(path);
      if (identityKey(result) === key) return result.sha256;
      return new BatonError("CONTENT_CHANGED", "the file changed while it was read");
    } catch (error) {
      return new BatonError(
        "CONTENT_UNAVAILABLE",
        `the file's digest cannot be made: ${(error as Error).message}`,
        error,
      );
    }
  }

  private remember(key: string, digest: string): void {
    for (const oldest of this.known.keys()) {
      if (this.known.size < REMEMBERED_MAX) break;
      this.known.delete(oldest);
    }
    this.known.set(key, digest);
  }
}
