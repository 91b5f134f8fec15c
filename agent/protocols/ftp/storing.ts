import { fdatasync, ftruncateSync, write } from "node:fs";
import { promisify } from "node:util";
import type { RootFile } from "./root.js";

const writeAsync = promisify(write);
const syncAsync = promisify(fdatasync);

/**
 * Writes a client's stream into a file. What is used up has outlived the server that wrote it: only then may the client take it for
 * stored, and only then does it.
 *
 *   add ─► waiting ─► written ─► synced ─► stored: used up
 */
export class Storing {
  private waiting: Buffer[] = [];
  private running = false;
  private closed = false;
  /** Offsets in the client's stream: of what is stored, and of what was added. */
  private at: number;
  private end: number;

  /**
   * @param base position in the file of the stream's first byte
   * @param from offset in the client's stream: what is below is in the file, and nothing else of the stream counts
   * @param stored everything below the offset is in the file; asked then, isIdle says whether that is all that was added
   * @param failed nothing more can be written
   */
  constructor(
    private readonly file: RootFile,
    private readonly base: number,
    from: number,
    private readonly stored: (offset: number) => void,
    private readonly failed: (error: Error) => void,
  ) {
    this.at = from;
    this.end = from;
    // What an earlier owner wrote and did not get recorded comes again.
    ftruncateSync(file.fd, base + from);
  }

  /** Everything that was added is stored. */
  get isIdle(): boolean {
    return this.at === this.end;
  }

  add(chunk: Buffer): void {
    this.waiting.push(chunk);
    this.end += chunk.length;
    if (this.running) return;
    this.running = true;
    this.run()
      .catch((error) => {
        if (!this.closed) this.failed(error as Error);
      })
      .finally(() => {
        this.running = false;
        if (this.closed) this.file.close();
      });
  }

  close(): void {
    this.waiting = [];
    this.closed = true;
    if (!this.running) this.file.close();
  }

  private async run(): Promise<void> {
    while (this.waiting.length > 0) {
      const bytes = Buffer.concat(this.waiting.splice(0));
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await writeAsync(
          this.file.fd,
          bytes,
          done,
          bytes.length - done,
          this.base + this.at + done,
        );
        done += bytesWritten;
      }
      await syncAsync(this.file.fd);
      if (this.closed) return;
      this.at += bytes.length;
      this.stored(this.at);
    }
  }
}
