import type { ConnectionRecord } from "../../proto/record.js";
import type { SocketState } from "../../proto/rpc/index.js";
import type { Offset } from "../../proto/sequence.js";
import type { GuardEntry } from "../guard/index.js";
import type { SocketImage } from "../native/api.js";

/** A connection that stands still for a handover: all that another server needs, and what this one needs to go on itself. */
export interface Frozen {
  /** As it is at the freeze; newer than the store's. */
  record: ConnectionRecord;
  /** Of the record in the store. */
  revision: number;
  socket: SocketState;
  /** In repair. */
  fd: number;
  /** Behind the last byte, and FIN, given to the kernel. */
  writtenTo: Offset;
}

export function freeze(
  record: ConnectionRecord,
  revision: number,
  { fd, sentOffset: writtenTo }: { fd: number; sentOffset: Offset },
  image: SocketImage,
  entry: GuardEntry,
): Frozen {
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
  };
  return { record, revision, socket, fd, writtenTo };
}
