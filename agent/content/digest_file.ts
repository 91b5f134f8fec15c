import { appendFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { logger } from "../../proto/log.js";

const log = logger("content");
const LINES_MAX = 100_000;

/**
 * Digests on disk, a line each, so that a worker that is started again need not read all content again. They are as good as those in
 * memory: the key is the file's whole identity. A line that was cut short is passed over.
 */
export class DigestFile {
  private lines = 0;

  constructor(private readonly path: string) {}

  /** Calls back for every digest, oldest first. */
  load(each: (key: string, digest: string) => void): void {
    const found = new Map<string, string>();
    for (const line of this.read().split("\n")) {
      this.lines++;
      const [key, digest] = line.split(" ");
      if (key && /^[0-9a-f]{64}$/.test(digest ?? "")) found.set(key, digest as string);
    }
    for (const [key, digest] of found) each(key, digest);
    if (this.lines > LINES_MAX) this.rewrite(found);
  }

  add(key: string, digest: string): void {
    this.attempt(() => appendFileSync(this.path, `${key} ${digest}\n`));
  }

  private read(): string {
    try {
      return readFileSync(this.path, "utf8");
    } catch {
      return ""; // the first start
    }
  }

  private rewrite(digests: Map<string, string>): void {
    this.attempt(() => {
      const text = [...digests].slice(-LINES_MAX / 2).map(([key, digest]) => `${key} ${digest}\n`);
      writeFileSync(`${this.path}.new`, text.join(""));
      renameSync(`${this.path}.new`, this.path);
    });
  }

  /** Without the file the next worker reads the content again: slower, never wrong. */
  private attempt(write: () => void): void {
    try {
      mkdirSync(dirname(this.path), { recursive: true });
      write();
    } catch (error) {
      log.warn({ err: error, path: this.path }, "digests cannot be kept on disk");
    }
  }
}
