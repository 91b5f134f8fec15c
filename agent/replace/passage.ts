import { join } from "node:path";
import { decodeRecord, encodeRecord } from "../../proto/record.js";
import type { Passed } from "../connection/passed.js";

/**
 * What goes from one worker to the next: a listener, or the connections of a bundle, or one connection. Descriptors come beside it under the
 * same number: of each connection its socket, then its files and sources.
 */
export type Passage = { number: number } & (
  | { listener: { address: string; port: number }; connections?: undefined }
  | { connections: PassedMessage[]; listener?: undefined }
);

/** The next worker has what came under this number. */
export interface Arrived {
  number: number;
}

/** A connection as JSON. `files`: the promises whose open files follow the socket, by their offsets, in that order; then so many `sources`. */
export interface PassedMessage extends Omit<Passed, "record"> {
  record: string; // base64
  files: number[];
  sources?: number; // a former version's process has none
}

export function encodePassed(passed: Passed, files: number[], sources: number): PassedMessage {
  const { record, revision, recorded, behind, limit, writtenTo } = passed;
  return {
    ...{ revision, recorded, behind, limit, writtenTo, files, sources },
    record: encodeRecord(record).toString("base64"),
  };
}

/** Throws RECORD_VERSION or RECORD_INVALID. */
export function decodePassed(message: PassedMessage): { passed: Passed; files: number[]; sources: number } {
  const { record, files, sources = 0, ...passed } = message;
  return { passed: { ...passed, record: decodeRecord(Buffer.from(record, "base64")) }, files, sources };
}

/** Where the next worker takes what is passed, in the server's state directory. */
export function socketsOf(state: string): { passages: string; descriptors: string } {
  return { passages: join(state, "passages.sock"), descriptors: join(state, "descriptors.sock") };
}
