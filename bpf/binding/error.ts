/**
 * A system call of the BPF binding failed. `code` is the errno's name ("EEXIST", "ENODEV"), ELIBBPF for errors of libbpf's
 * own; `subject` is what it was about (a path, a map, an interface); `log` the last lines of libbpf and the verifier, if any.
 */
export class BindingError extends Error {
  readonly code: string;
  readonly syscall: string;
  readonly subject: string;
  readonly log: string;

  constructor(message: string, details: { code: string; syscall: string; subject: string; log: string }) {
    super(message);
    this.name = "BindingError";
    this.code = details.code;
    this.syscall = details.syscall;
    this.subject = details.subject;
    this.log = details.log;
  }
}
