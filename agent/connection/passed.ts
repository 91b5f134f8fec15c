import type { ConnectionRecord } from "../../proto/record.js";
import type { Offset } from "../../proto/sequence.js";

/** A live connection between two processes of its server: all of it that lives only in memory. */
export interface Passed {
  /** As it is now; perhaps newer than the store's. */
  record: ConnectionRecord;
  /** Of the record in the store; 0 = none yet. */
  revision: number;
  /** Whether it gets records at all. */
  recorded: boolean;
  /** The record in the store lacks something that has to be in it before the connection can go on as far as it wants. */
  behind: boolean;
  /** Behind what may leave by the record in the store. */
  limit: Offset;
  /** Behind the last byte, and FIN, given to the kernel. */
  writtenTo: Offset;
}

/** The same, with what is open. */
export interface PassedOpen extends Passed {
  fd: number;
  /** Open files by the offsets of the promises that name them; to be closed by `release`. */
  files: Array<{ offset: Offset; fd: number }>;
  /** What its application reads from beside them. */
  sources: number[];
  release(): void;
}
