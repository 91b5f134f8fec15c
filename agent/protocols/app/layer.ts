import { BatonError, RefusedError } from "../../../proto/errors.js";
import type { LayerSection } from "../../../proto/record.js";
import { decodeAppSection, encodeAppSection } from "../../../proto/sections.js";
import type {
  ApplicationDescription,
  ApplicationLayer,
  ConnectionPort,
  OpenObject,
  TakenObject,
} from "../application.js";
import type { Answer, Application, StartApplication } from "./application.js";

/** Requests wait while more bytes of answers than this are not acknowledged. */
const AHEAD_MAX = 65_536;
const NOTHING = Buffer.alloc(0);

/**
 * Hosts an application: its state goes into the records as it is, its answers become promises. All requests that have come are
 * answered by one promise, as long as the client takes the answers; the others wait in the spool.
 */
export class AppLayer implements ApplicationLayer {
  readonly name = "app";
  private application: Application;

  /** Input that is not used: what the application has seen of it, then chunks that it has not seen. */
  private rest: Buffer = NOTHING;
  private waiting: Buffer[] = [];
  /** Client stream offset up to which input has come, and up to which it is used. */
  private received: number;
  private used: number;
  private inputEnded = false;
  private acknowledgedTo = 0;
  private over = false;

  constructor(
    private readonly port: ConnectionPort,
    inputOffset: number,
    private readonly start: StartApplication,
  ) {
    this.received = inputOffset;
    this.used = inputOffset;
    this.application = start();
  }

  // ---- input ----

  input(chunk: Buffer): void {
    this.received += chunk.length;
    this.waiting.push(chunk);
    this.advance();
  }

  inputEnd(): void {
    this.inputEnded = true;
    this.advance();
  }

  acknowledged(position: number): void {
    this.acknowledgedTo = position;
    // Not at once: a record may be in the making, and a new promise is none of its own.
    if (this.received > this.used || this.inputEnded) queueMicrotask(() => this.advance());
  }

  /** Answers as far as possible. */
  private advance(): void {
    if (this.over) return;
    if (this.port.ended()) {
      this.discard();
      return;
    }
    const usedBefore = this.used;
    const output: Buffer[] = [];
    let end = false;
    try {
      let ahead = this.port.tail() - this.acknowledgedTo;
      // Where nothing is left there is only our FIN to promise, which needs no room.
      while (!end && (ahead <= AHEAD_MAX || this.used === this.received)) {
        const answer = this.next();
        if (!answer) break;
        output.push(answer.output);
        ahead += answer.output.length;
        end = answer.end ?? false;
      }
    } catch (error) {
      void this.port.reset(`the application ${this.application.name} failed: ${(error as Error).message}`);
      return;
    }
    if (!end && this.used === usedBefore) return;
    const literal = Buffer.concat(output);
    this.port.respond({
      pieces: literal.length > 0 ? [{ literal }] : [],
      fin: end,
      processed: end ? this.received : this.used,
    });
    if (end) this.discard();
  }

  /** The answer to the next request; undefined while it is not all there. */
  private next(): Answer | undefined {
    for (;;) {
      const answer = this.rest.length > 0 ? this.application.answer(this.rest) : undefined;
      if (answer) return this.use(answer);
      const chunk = this.waiting.shift();
      if (!chunk) break;
      this.rest = this.rest.length > 0 ? Buffer.concat([this.rest, chunk]) : chunk;
    }
    if (!this.inputEnded) return undefined;
    return { used: this.rest.length, output: this.application.finish(this.rest), end: true };
  }

  private use(answer: Answer): Answer {
    const { used } = answer;
    if (used < 1 || used > this.rest.length) {
      throw new BatonError("INTERNAL", `it used ${used} bytes of ${this.rest.length}`);
    }
    this.rest = this.rest.subarray(used);
    this.used += used;
    return answer;
  }

  /** Input behind our FIN is of no use. */
  private discard(): void {
    this.rest = NOTHING;
    this.waiting = [];
    this.used = this.received;
    this.port.processed(this.received);
  }

  // ---- takeover ----

  checkpoint(block: LayerSection[]): void {
    const { name, version } = this.application;
    block.push(encodeAppSection({ application: name, version, state: this.application.checkpoint() }));
  }

  unready(section: LayerSection): void {
    const { application, version, state } = decodeAppSection(section);
    const { name } = this.application;
    if (application !== name) {
      throw new RefusedError("another application", `the record is of "${application}", this server has "${name}"`);
    }
    this.application.restore(version, state);
  }

  open(): Promise<OpenObject> {
    return Promise.reject(new RefusedError("no such object", "an application has no objects"));
  }

  take(): Promise<TakenObject> {
    return Promise.reject(new RefusedError("no such object", "an application has no objects"));
  }

  ready(position: number): void {
    this.acknowledgedTo = position;
  }

  undo(): void {
    this.application = this.start();
  }

  describe(): ApplicationDescription {
    return { object: "", objectOffset: 0, firstByteSequence: 0, requests: this.application.requests };
  }

  closed(): void {
    this.over = true;
    this.rest = NOTHING;
    this.waiting = [];
  }
}
