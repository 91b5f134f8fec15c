import { fdatasync, ftruncate, write } from "node:fs";
import { promisify } from "node:util";
import type { RootFile } from "./root.js";

const writeAsync = promisify(write);
const syncAsync = promisify(fdatasync);
const truncateAsync = promisify(ftruncate);

export interface StoringOptions {
  file: RootFile;
  /** Position in the file of the stream's first byte. */
  base: number;
  /** Offset in the client's stream: what is below is in the file. */
  from: number;
  /** What the file had is not to stay. */
  empties: boolean;
  /** Everything below the offset of the client's stream is in the file; asked then, isIdle says whether that is all that was added. */
  stored(offset: number): void;
  /** Nothing more can be written. */
  failed(error: Error): void;
}

/**
 * Writes a client's stream into a file. What is used up has outlived the server that wrote it: only then may the client take it for
 * stored, and only then does it. What an earlier owner wrote and did not get recorded comes again, and is written again at its place.
 *
 *   add ─► waiting ─► written ─► synced ─► stored: used up
 */
export class Storing {
  private waiting: Buffer[] = [];
  private running = true;
  private closed = false;
  /** Offsets in the client's stream: of what is stored, and of what was added. */
  private at: number;
  private end: number;

  constructor(private readonly options: StoringOptions) {
    this.at = options.from;
    this.end = options.from;
    this.go(async () => {
      if (options.empties) await truncateAsync(options.file.fd, 0);
      await this.write();
    });
  }

  /** Everything that was added is stored. */
  get isIdle(): boolean {
    return this.at === this.end;
  }

  add(chunk: Buffer): void {
    this.waiting.push(chunk);
    this.end += chunk.length;
    if (!this.running) this.go(() => this.write());
  }

  close(): void {
    this.waiting = [];
    this.closed = true;
    if (!this.running) this.options.file.close();
  }

  private go(work: () => Promise<void>): void {
    this.running = true;
    work()
      .catch((error) => {
        if (!this.closed) this.options.failed(error as Error);
      })
      .finally(() => {
        this.running = false;
        if (this.closed) this.options.file.close();
      });
  }

  private async write(): Promise<void> {
    const { file, base } = this.options;
    while (this.waiting.length > 0) {
      const bytes = Buffer.concat(this.waiting.splice(0));
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await writeAsync(file.fd, bytes, done, bytes.length - done, base + this.at + done);
        done += bytesWritten;
      }
      await syncAsync(file.fd);
      if (this.closed) return;
      this.at += bytes.length;
      this.options.stored(this.at);
    }
  }
}
