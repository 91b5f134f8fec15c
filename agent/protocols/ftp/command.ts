import { isUtf8 } from "node:buffer";

/** Bytes of a line as it was sent, its end included. Longer ones are answered 500. */
export const LINE_MAX = 4_096;
/** A line that has not ended by here is waited for no longer: what is not processed stays in the record. */
export const LINE_END_MAX = 16_384;

export type Line =
  /** `verb` in upper case. `argument` is what stands behind exactly one space, "" where there is nothing. */
  | { kind: "command"; verb: string; argument: string; endOffset: number }
  /** Longer than LINE_MAX, and ended. */
  | { kind: "too long"; endOffset: number }
  /** No verb, a NUL, a CR inside, or no UTF-8 (RFC 2640 section 3.1). */
  | { kind: "malformed"; endOffset: number }
  /** Longer than LINE_END_MAX, and not ended: nothing behind it can be understood, and nothing more is read. */
  | { kind: "endless"; endOffset: number };

const NUL = 0;
const LF = 10;
const CR = 13;

/** RFC 854, "Telnet command structure". */
const SE = 240;
const SB = 250;
const WILL = 251;
const DONT = 254;
const IAC = 255;

type Telnet = "text" | "command" | "option" | "subnegotiation" | "subnegotiation command";

/**
 * Reads commands (RFC 959 section 5.3) out of chunks that are cut anywhere. They end in CRLF or in LF alone. The control
 * connection is a Telnet connection (section 3.1), so IAC sequences are left out, wherever they stand: a client sends
 * "IAC IP IAC DM ABOR". A line's meaning depends on its own bytes only, so that a reader which begins behind any line goes on
 * exactly as this one would.
 */
export class CommandReader {
  private telnet: Telnet = "text";
  private readonly text = Buffer.alloc(LINE_MAX);
  private textLength = 0;
  /** Of the line as it was sent. */
  private length = 0;
  private afterReturn = false;
  private isMalformed = false;
  private isEndless = false;

  /** @param offset of the first byte that comes, in the client's stream: behind the last line that was answered */
  constructor(private offset: number) {}

  /** The lines that end in the chunk, in order; `endOffset` is the stream offset behind their last byte. */
  read(chunk: Buffer): Line[] {
    const lines: Line[] = [];
    for (const byte of chunk) {
      if (this.isEndless) break;
      this.offset++;
      this.length++;
      if (this.take(byte)) lines.push(this.finish());
      else if (this.length > LINE_END_MAX) {
        this.isEndless = true;
        lines.push({ kind: "endless", endOffset: this.offset });
      }
    }
    return lines;
  }

  /** Whether the byte ends the line. */
  private take(byte: number): boolean {
    switch (this.telnet) {
      case "text":
        if (byte !== IAC) return this.takeText(byte);
        this.telnet = "command";
        return false;
      case "command":
        return this.takeCommand(byte);
      case "option":
        this.telnet = "text";
        return false;
      case "subnegotiation":
        if (byte === IAC) this.telnet = "subnegotiation command";
        return false;
      case "subnegotiation command":
        this.telnet = byte === SE ? "text" : "subnegotiation";
        return false;
    }
  }

  private takeCommand(byte: number): boolean {
    this.telnet = "text";
    if (byte === IAC) return this.takeText(byte);
    if (byte < SE) {
      // Not a command, but a byte that should have been doubled: to leave it out would make another name of it.
      this.isMalformed = true;
      return this.takeText(byte);
    }
    if (byte === SB) this.telnet = "subnegotiation";
    else if (byte >= WILL && byte <= DONT) this.telnet = "option";
    return false;
  }

  private takeText(byte: number): boolean {
    if (byte === LF) return true;
    if (byte === NUL || this.afterReturn) this.isMalformed = true;
    this.afterReturn = byte === CR;
    if (!this.afterReturn && this.textLength < LINE_MAX) this.text[this.textLength++] = byte;
    return false;
  }

  private finish(): Line {
    const line = this.judge();
    this.textLength = 0;
    this.length = 0;
    this.afterReturn = false;
    this.isMalformed = false;
    return line;
  }

  private judge(): Line {
    const endOffset = this.offset;
    if (this.length > LINE_MAX) return { kind: "too long", endOffset };
    const bytes = this.text.subarray(0, this.textLength);
    const match = !this.isMalformed && isUtf8(bytes) && /^([A-Za-z]+)(?: (.*))?$/s.exec(bytes.toString());
    if (!match) return { kind: "malformed", endOffset };
    return { kind: "command", verb: (match[1] as string).toUpperCase(), argument: match[2] ?? "", endOffset };
  }
}
