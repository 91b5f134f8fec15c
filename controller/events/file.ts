import { readFileSync } from "node:fs";
import { appendFile, mkdir, rename, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { logger } from "../../proto/log.js";

const log = logger("events");

/**
 * JSON lines in `path`, and those before them in `path`.1: when `path` has `linesMax` lines it takes the place of the
 * older one. So between linesMax and 2 * linesMax lines are kept. Lines are written in batches, off the event loop.
 */
export class LineFile {
  readonly #path: string;
  readonly #linesMax: number;
  #lines = 0;
  #pending: string[] = [];
  #writing: Promise<void> | undefined;

  constructor(path: string, linesMax: number) {
    this.#path = path;
    this.#linesMax = linesMax;
  }

  /** All complete lines on disk, oldest first. Call it once, before the first add(). */
  load(): unknown[] {
    const older = readLines(`${this.#path}.1`);
    const newer = readLines(this.#path);
    this.#lines = newer.length;
    // What a killed writer left half-written must not become the head of the next line.
    if (newer.length > 0) this.#pending.push("");
    return [...older, ...newer].flatMap((line) => {
      try {
        return [JSON.parse(line) as unknown];
      } catch {
        return [];
      }
    });
  }

  add(line: string): void {
    // The disk may be gone for long; what waits for it is bounded like the file itself.
    if (this.#pending.length >= this.#linesMax) this.#pending.shift();
    this.#pending.push(line);
    this.#writing ??= this.#drain();
  }

  /** Resolves when everything added so far was written or given up. */
  async flush(): Promise<void> {
    while (this.#writing) await this.#writing;
  }

  async #drain(): Promise<void> {
    try {
      await mkdir(dirname(this.#path), { recursive: true });
      while (this.#pending.length > 0) {
        const batch = this.#pending.splice(0, 1024);
        if (this.#lines >= this.#linesMax && (await stat(this.#path).catch(() => undefined))) {
          await rename(this.#path, `${this.#path}.1`);
          this.#lines = 0;
        }
        await appendFile(this.#path, `${batch.join("\n")}\n`);
        this.#lines += batch.length;
      }
    } catch (error) {
      log.error({ err: error, file: this.#path }, "events cannot be written; they are kept in memory only");
    } finally {
      this.#writing = undefined;
    }
  }
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, "utf8").split("\n").filter(Boolean);
  } catch {
    return []; // not there yet
  }
}
