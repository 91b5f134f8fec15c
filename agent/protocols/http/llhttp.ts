import { createRequire } from "node:module";
import constants from "undici/lib/llhttp/constants.js";

/** The part of the global that is used here; TypeScript has it only together with the browser's. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: Record<string, Record<string, unknown>>) => { exports: unknown };
};

/**
 * llhttp, the parser of Node's own http module, as undici ships it in WebAssembly: strict, and it says where a message
 * ends to the byte. undici is pinned exactly, because this is not part of its public interface; the tests would notice a change.
 */
interface Exports {
  memory: { buffer: ArrayBuffer };
  _initialize(): void;
  malloc(size: number): number;
  llhttp_alloc(type: number): number;
  llhttp_free(parser: number): void;
  llhttp_execute(parser: number, data: number, length: number): number;
  llhttp_resume(parser: number): void;
  llhttp_get_error_pos(parser: number): number;
  llhttp_get_method(parser: number): number;
  llhttp_get_http_major(parser: number): number;
  llhttp_get_http_minor(parser: number): number;
  llhttp_should_keep_alive(parser: number): number;
}

/** What the parser tells while it works; texts are Latin-1, in parts as the input came. */
export interface ParserEvents {
  url(part: string): void;
  field(part: string): void;
  value(part: string): void;
  headComplete(): void;
  /** Of the body, decoded. The bytes are the callee's. */
  body(part: Buffer): void;
  messageComplete(): void;
}

/** Why `execute` stopped. "paused": at the end of a head or of a message. */
export type Stop = "end" | "paused" | "method" | "version" | "error";

/** The largest chunk handed to the parser at a time, bytes. */
const CHUNK_MAX = 16_384;

let running: ParserEvents | undefined;

const { exports, buffer } = load();

function load(): { exports: Exports; buffer: number } {
  const bytes = createRequire(import.meta.url)("undici/lib/llhttp/llhttp-wasm.js") as Buffer;
  const text = (at: number, length: number) => Buffer.from(exports.memory.buffer, at, length).toString("latin1");
  const events = () => running as ParserEvents;
  const { PAUSED } = constants.ERROR;
  const tell = (event: () => void, result = 0) => {
    event();
    return result;
  };
  const env = {
    wasm_on_message_begin: () => 0,
    wasm_on_status: () => 0,
    wasm_on_url: (_: number, at: number, length: number) => tell(() => events().url(text(at, length))),
    wasm_on_header_field: (_: number, at: number, length: number) => tell(() => events().field(text(at, length))),
    wasm_on_header_value: (_: number, at: number, length: number) => tell(() => events().value(text(at, length))),
    wasm_on_headers_complete: () => tell(() => events().headComplete(), PAUSED),
    wasm_on_body: (_: number, at: number, length: number) =>
      tell(() => events().body(Buffer.from(Buffer.from(exports.memory.buffer, at, length)))),
    wasm_on_message_complete: () => tell(() => events().messageComplete(), PAUSED),
  };
  const instance = new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array(bytes)), { env });
  const exports = instance.exports as Exports;
  exports._initialize();
  return { exports, buffer: exports.malloc(CHUNK_MAX) };
}

/** One request's parser. After its message is complete it is of no more use: `free` it and make another. */
export class Llhttp {
  private readonly parser = exports.llhttp_alloc(constants.TYPE.REQUEST as number);
  private paused = false;

  constructor(private readonly events: ParserEvents) {}

  /** Parses on. `taken`: bytes of the chunk that were used up; less than its length only where it stopped before its end. */
  execute(chunk: Buffer): { stop: Stop; taken: number } {
    let taken = 0;
    do {
      const part = chunk.subarray(taken, taken + CHUNK_MAX);
      new Uint8Array(exports.memory.buffer, buffer, part.length).set(part);
      if (this.paused) exports.llhttp_resume(this.parser);
      running = this.events;
      const code = exports.llhttp_execute(this.parser, buffer, part.length);
      running = undefined;
      this.paused = code === constants.ERROR.PAUSED;
      if (code !== constants.ERROR.OK) {
        taken += exports.llhttp_get_error_pos(this.parser) - buffer;
        return { stop: this.paused ? "paused" : reason(code), taken };
      }
      taken += part.length;
    } while (taken < chunk.length);
    return { stop: "end", taken };
  }

  get method(): string {
    return methodNames.get(exports.llhttp_get_method(this.parser)) ?? "";
  }

  get version(): { major: number; minor: number } {
    return {
      major: exports.llhttp_get_http_major(this.parser),
      minor: exports.llhttp_get_http_minor(this.parser),
    };
  }

  /** As RFC 9112 section 9.3 says; right once the head is complete. */
  get keepAlive(): boolean {
    return exports.llhttp_should_keep_alive(this.parser) === 1;
  }

  free(): void {
    exports.llhttp_free(this.parser);
  }
}

const methodNames = new Map(Object.entries(constants.METHODS).map(([name, number]) => [number, name]));

function reason(code: number): Stop {
  if (code === constants.ERROR.INVALID_METHOD) return "method";
  return code === constants.ERROR.INVALID_VERSION ? "version" : "error";
}
