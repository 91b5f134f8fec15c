import { RefusedError } from "../../../proto/errors.js";
import type { Answer, Application } from "./application.js";

const LF = 0x0a;
/** The longest line without its end, bytes. */
const LINE_MAX = 65_536;

/**
 * The sample: echoes each line as it came, prefixed with its number on this connection and a space. A last line without an
 * end is echoed without one.
 */
export class EchoApplication implements Application {
  readonly name = "echo";
  readonly version = 1;
  private lines = 0;
  private readonly lineMax: number;

  /** @param inputBytes how much may wait for the application: a longer line could never be all there. */
  constructor(inputBytes: number) {
    this.lineMax = Math.min(LINE_MAX, inputBytes - 1);
  }

  get requests(): number {
    return this.lines;
  }

  checkpoint(): Buffer {
    return Buffer.from(JSON.stringify({ lines: this.lines }));
  }

  restore(version: number, state: Buffer): void {
    if (version !== this.version) {
      throw new RefusedError("another version of the application", `echo has version ${version}, known is 1`);
    }
    this.lines = linesOf(state);
  }

  answer(input: Buffer): Answer | undefined {
    const end = input.subarray(0, this.lineMax + 1).indexOf(LF);
    if (end >= 0) return { used: end + 1, output: this.numbered(input.subarray(0, end + 1)) };
    if (input.length <= this.lineMax) return undefined;
    this.lines++;
    const sentence = `Line ${this.lines} is longer than ${this.lineMax} bytes, the most that is echoed: the connection ends here.\n`;
    return { used: input.length, output: Buffer.from(sentence), end: true };
  }

  finish(input: Buffer): Buffer {
    return input.length > 0 ? this.numbered(input) : input;
  }

  private numbered(line: Buffer): Buffer {
    this.lines++;
    return Buffer.concat([Buffer.from(`${this.lines} `), line]);
  }
}

function linesOf(state: Buffer): number {
  try {
    const { lines } = JSON.parse(state.toString()) as { lines: unknown };
    if (Number.isSafeInteger(lines) && (lines as number) >= 0) return lines as number;
  } catch {
    // said below
  }
  throw new RefusedError("the application's state is not usable", `echo cannot read its state "${state}"`);
}
