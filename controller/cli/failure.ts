import { ConfigError } from "../../proto/config/index.js";
import { BatonError } from "../../proto/errors.js";

/**
 * What is printed when something went wrong: one sentence, never a stack. A wrong configuration gets a line for each
 * problem, in the form that editors understand.
 */
export function describeError(error: unknown): string {
  if (error instanceof ConfigError) return error.message;
  if (error instanceof BatonError) return `baton: ${error.message}`;
  if (!(error instanceof Error)) return `baton: ${String(error)}`;
  const { code, message } = error as NodeJS.ErrnoException;
  return `baton: unexpected error${code === undefined ? "" : ` ${code}`}: ${message.split("\n")[0]}`;
}
