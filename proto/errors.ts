/**
 * Every code that an error of Baton can carry, with what it means. Codes are stable: log searches, tests and scripts
 * rely on them. Add a line where one is missing; never give a retired code a new meaning.
 */
export const errorCodes = {
  ADDRESS_INVALID: "a text or byte string is not an IPv4 or IPv6 address or endpoint",
  CONNECTION_ID_INVALID: "a text is not a connection id",
  RECORD_INVALID: "bytes of the shared state cannot be read as what they should be",
  RECORD_VERSION: "a record was written by a version of Baton that this one does not understand",
  STORE_CONFLICT: "a compare-and-set lost: somebody else has written the key",
  STORE_UNAVAILABLE: "the store did not answer in time or is not connected",
  STORE_FAILED: "the store answered with an error",
  STORE_TOO_SMALL: "a message is larger than the store's servers take: their max_payload",
  CONFIG_INVALID: "the configuration does not fit the schema; the message names line and column",
  CONFIG_UNREADABLE: "the configuration file cannot be read",
  KERNEL_UNSUPPORTED: "the kernel lacks something that Baton needs; the message names it",
  NOT_PERMITTED: "the process lacks a privilege that the operation needs",
  BPF_FAILED: "a BPF object could not be loaded, attached or used",
  TCP_FAILED: "a system call on a TCP socket failed; the message names the step",
  PORT_TAKEN: "an address that should be listened on is in use",
  CONTENT_UNAVAILABLE: "a directory to be served is missing or cannot be read",
  CONTENT_CHANGED: "a file changed while it was read or no longer is what a record names",
  CONTENT_PENDING: "the digest of a file is not known yet",
  UPSTREAM_FAILED: "a server behind an agent did not answer, or not as its protocol asks",
  LEASE_LOST: "the server's lease is over: it must not send any more",
  AGENT_UNAVAILABLE: "an agent is not connected or did not answer in time",
  CONTROLLER_UNAVAILABLE: "no controller could be reached",
  PROTOCOL_VIOLATED: "a peer inside the cluster said something that the protocol does not allow",
  LIMIT_REACHED: "a bound on a queue, table or buffer was reached",
  DEADLINE_PASSED: "an operation did not end in time",
  NOT_FOUND: "what was asked for does not exist",
  UNSUPPORTED: "known, but not part of this version",
  REFUSED: "a record does not allow an exact resume; the reason says why",
  INTERNAL: "an invariant of the program does not hold",
} as const;

export type ErrorCode = keyof typeof errorCodes;

/** An error of Baton's own: a stable code and a sentence with the subject, and what lies below it. */
export class BatonError extends Error {
  readonly code: ErrorCode;

  /** @param message a sentence that names the subject; the code is put in front of it by whoever prints it. */
  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.code = code;
  }
}

/**
 * The record does not allow an exact resume here. The connection is reset at the client, counted and logged with the
 * reason, a short fixed phrase ("object changed", "object missing", "acknowledgement outside the record", ...).
 */
export class RefusedError extends BatonError {
  readonly reason: string;

  constructor(reason: string, message: string = reason, cause?: unknown) {
    super("REFUSED", message, cause);
    this.reason = reason;
  }
}
