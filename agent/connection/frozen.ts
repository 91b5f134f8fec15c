import { RefusedError } from "../../proto/errors.js";
import { type ConnectionRecord, encodeRecord } from "../../proto/record.js";
import type { SocketState } from "../../proto/rpc/index.js";
import type { Offset } from "../../proto/sequence.js";
import type { GuardEntry } from "../guard/index.js";
import type { SocketImage } from "../native/api.js";

/** Room for what its next owner writes into the record: its name, its epoch. */
const NEXT_OWNER_BYTES = 1_024;

/** A connection that stands still for a handover: all that another server needs, and what this one needs to go on itself. */
export interface Frozen {
  /** As it is at the freeze; newer than the store's. */
  record: ConnectionRecord;
  /** The record, encoded. */
  bytes: Buffer;
  /** Of the record in the store. */
  revision: number;
  socket: SocketState;
  /** In repair. */
  fd: number;
  /** Behind the last byte, and FIN, given to the kernel. */
  writtenTo: Offset;
}

/** Throws RefusedError where the record is larger than `recordBytes`: nobody could commit it. */
export function freeze(
  record: ConnectionRecord,
  revision: number,
  { fd, sentOffset: writtenTo }: { fd: number; sentOffset: Offset },
  image: SocketImage,
  entry: GuardEntry,
  recordBytes: number,
): Frozen {
  const bytes = encodeRecord(record);
  if (bytes.length + NEXT_OWNER_BYTES > recordBytes) {
    throw new RefusedError(`too much of its input is not used yet: its record would have ${bytes.length} bytes`);
  }
  const { window, options } = image;
  const socket: SocketState = {
    sendUna: image.sendUna,
    // What the guard has let out, whatever the kernel believes: it may have sent since the freeze.
    sendNext: entry.sendNext,
    windowWl1: window.sndWl1,
    windowSend: window.sndWnd,
    windowMax: window.maxWindow,
    timestampClock: image.timestampClock,
    timestampUsec: image.timestampUsec,
    nodelay: options.nodelay,
    keepalive: options.keepalive,
    keepIdleS: options.keepIdleS,
    keepIntervalS: options.keepIntervalS,
    keepCount: options.keepCount,
    congestion: options.congestion,
    acknowledged: entry.sentAck,
    echo: entry.tsecr,
    unread: image.receiveQueue,
  };
  return { record, bytes, revision, socket, fd, writtenTo };
}
