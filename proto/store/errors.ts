import { BatonError } from "../errors.js";

/** What lies under a key at this moment. A tombstone is `removed`, its bytes are empty. Revision 0: there is nothing. */
export interface Present {
  revision: number;
  bytes: Uint8Array;
  removed: boolean;
  /** Nats-Msg-Id under which it was written; "" = none. */
  messageId: string;
}

/** A compare-and-set lost against `present`, which the stream's leader reported after the refusal. */
export class ConflictError extends BatonError {
  readonly key: string;
  readonly present: Present;

  constructor(key: string, expected: number, present: Present) {
    super("STORE_CONFLICT", `${key} is at revision ${present.revision}, not at ${expected}`);
    this.key = key;
    this.present = present;
  }
}

/** JetStream refused a request. `apiCode` is its err_code (nats-server, server/errors.json). */
export class StoreRefusal extends BatonError {
  readonly apiCode: number;

  constructor(subject: string, apiCode: number, description: string) {
    super("STORE_FAILED", `the store refused ${subject}: ${description} (${apiCode})`);
    this.apiCode = apiCode;
  }
}
