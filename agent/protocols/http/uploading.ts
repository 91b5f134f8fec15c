import { type Answer, plain } from "./answer.js";
import type { Upload } from "./handler.js";
import type { RequestReader } from "./request.js";

/**
 * A request whose body is larger than what is kept in memory: it is read and handed on in the same step.
 */
export class Uploading {
  private ended = false;
  private settle!: (answer: Answer) => void;
  /** Never rejects. */
  readonly answer = new Promise<Answer>((resolve) => {
    this.settle = resolve;
  });

  /**
   * @param reader behind the head, or somewhere in the body
   * @param room called when `feed` takes something again
   */
  constructor(
    private readonly reader: RequestReader,
    private readonly upload: Upload,
    room: () => void,
  ) {
    reader.pass();
    upload.onRoom = room;
    this.write(); // what was kept before it turned out to be large
    // The rest of a body that is answered already is of no use to anybody.
    void upload.answer.then((answer) => this.settle(this.ended ? answer : { ...answer, close: true }));
  }

  /** Whether it takes a chunk now. */
  get takes(): boolean {
    return !this.ended && !this.upload.isCongested;
  }

  /** @returns how much of the chunk belongs to the request */
  feed(chunk: Buffer): number {
    const progress = this.reader.read(chunk);
    this.write();
    if (progress.kind === "bad") {
      this.fail(progress.status);
      return chunk.length;
    }
    if (progress.kind !== "end") return chunk.length;
    this.ended = true;
    this.upload.end(this.reader.trailers);
    return progress.taken;
  }

  /** Nothing more will come of the client's. @param status of a request that is not complete */
  inputEnd(status: number): void {
    if (!this.ended) this.fail(status);
  }

  stop(): void {
    this.upload.stop();
  }

  private fail(status: number): void {
    this.ended = true;
    this.settle(plain(status, { close: true }));
    this.upload.stop();
  }

  private write(): void {
    const part = this.reader.takeBody();
    if (part.length > 0) this.upload.write(part);
  }
}
