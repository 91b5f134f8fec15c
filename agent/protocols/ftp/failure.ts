import { logger } from "../../../proto/log.js";
import { replies } from "./reply.js";
import { FileError, type FileFailure } from "./root.js";

const log = logger("ftp");

const REPLIES: Record<FileFailure, Buffer> = {
  "not found": replies.notFound,
  denied: replies.denied,
  exists: replies.exists,
  "not empty": replies.notEmpty,
  "no space": replies.noSpaceNow,
  "is a directory": replies.isDirectory,
  "not a directory": replies.notDirectory,
  "too large": replies.failed,
};

/** An argument is no path. */
export class PathError extends Error {}

/** What a client is told of a command that has failed. */
export function failureReply(error: unknown): Buffer {
  if (error instanceof PathError) return replies.badName;
  if (error instanceof FileError) return REPLIES[error.failure];
  log.warn({ err: error }, "an FTP command failed");
  return replies.failed;
}
