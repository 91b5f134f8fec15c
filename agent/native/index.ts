import { createRequire } from "node:module";
import { addon } from "../../proto/paths.js";
import type { Native } from "./api.js";

export type * from "./api.js";

/** A system call that failed. `code` is the errno's name, as in Node's own errors: "EADDRINUSE". */
export class TcpError extends Error {
  readonly code: string;
  /** What was being done: "bind", "options", "send queue", ... */
  readonly step: string;
  /** The call: "setsockopt(TCP_REPAIR_OPTIONS)". */
  readonly syscall: string;
  /** The connection, address, path or pid; empty where there is none. */
  readonly subject: string;

  constructor(code: string, step: string, syscall: string, subject: string) {
    super(`${code}: ${step}: ${syscall}${subject && `: ${subject}`}`);
    this.name = "TcpError";
    this.code = code;
    this.step = step;
    this.syscall = syscall;
    this.subject = subject;
  }
}

const library = createRequire(import.meta.url)(addon("tcp")) as { open(errorClass: typeof TcpError): Native };

/** The addon. What it throws or rejects with is a TcpError, or a TypeError for arguments of the wrong shape. */
export const native: Native = library.open(TcpError);
