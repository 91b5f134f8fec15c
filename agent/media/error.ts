import { BatonError, type ErrorCode } from "../../proto/errors.js";

/** malformed: no file of its kind. unsupported: one, but nothing in it can be sent, or not as it is. too large: past a bound. */
export type MediaProblem = "malformed" | "unsupported" | "too large";

const CODES: Record<MediaProblem, ErrorCode> = {
  malformed: "CONTENT_UNAVAILABLE",
  unsupported: "UNSUPPORTED",
  "too large": "LIMIT_REACHED",
};

/** A media file that cannot be sent; the message is one sentence that says why, without the file's name. */
export class MediaError extends BatonError {
  constructor(
    readonly problem: MediaProblem,
    message: string,
    cause?: unknown,
  ) {
    super(CODES[problem], message, cause);
  }
}
