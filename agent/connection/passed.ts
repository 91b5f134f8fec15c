import type { ConnectionRecord } from "../../proto/record.js";
import type { Offset } from "../../proto/sequence.js";

/** How far a connection's committed record goes; its present state may be ahead. */
export interface Committed {
  tail: Offset;
  floor: Offset;
  floorByte: Buffer;
}

/** A live connection between two processes of its server: all of it that lives only in memory. */
export interface Passed {
  /** As it is now; perhaps newer than the store's. */
  record: ConnectionRecord;
  /** Of the record in the store; 0 = none yet. */
  revision: number;
  /** Whether it gets records at all. */
  recorded: boolean;
  /** `record` has something that the store's has not. */
  behind: boolean;
  committed: Committed;
  /** Behind the last byte, and FIN, given to the kernel. */
  writtenTo: Offset;
}

/** The same, with what is open. */
export interface PassedOpen extends Passed {
  fd: number;
  /** Open files by the offsets of the promises that name them; to be closed by `release`. */
  files: Array<{ offset: Offset; fd: number }>;
  release(): void;
}
