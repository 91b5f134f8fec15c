import { RefusedError } from "../../proto/errors.js";
import { type ConnectionRecord, encodeRecord } from "../../proto/record.js";
import type { SocketState } from "../../proto/rpc/index.js";
import { type Offset, toSequence } from "../../proto/sequence.js";
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

/** Of a socket whose client has sent its FIN: CLOSE_WAIT, LAST_ACK, CLOSING (net/tcp_states.h). */
const CLIENT_FINISHED = [8, 9, 11];

/** What is known at the moment of the freeze. */
export interface Freezing {
  /** The record as the connection would write it; what lies in the socket unread is not in it. */
  snapshot: ConnectionRecord;
  revision: number;
  fd: number;
  sentOffset: Offset;
  image: SocketImage;
  entry: GuardEntry;
  /** The store takes no larger record. */
  recordBytes: number;
}

/** Throws RefusedError where the connection could not be rebuilt from it. */
export function freeze({ snapshot, revision, fd, sentOffset, image, entry, recordBytes }: Freezing): Frozen {
  const { timestampClock, timestampUsec, receiveQueue, receiveNext } = image;
  const tcp = { ...snapshot.tcp, timestampClock, timestampUsec };
  const plain: ConnectionRecord = { ...snapshot, phase: "FROZEN", tcp };
  const frozen = (record: ConnectionRecord, unread: Buffer, finLeftOut = 0): Frozen => {
    if (toSequence(tcp.clientIsn, record.consumed + unread.length + finLeftOut) !== receiveNext) {
      throw new RefusedError("its input is not where its record says");
    }
    const socket = socketState(image, entry, unread);
    return { record, bytes: encodeRecord(record), revision, socket, fd, writtenTo: sentOffset };
  };
  const fits = ({ bytes }: Frozen) => bytes.length + NEXT_OWNER_BYTES <= recordBytes;

  const finished = CLIENT_FINISHED.includes(image.state) && !plain.clientFinished;
  if (finished) {
    const whole = frozen(withAllInput(plain, receiveQueue), Buffer.alloc(0));
    if (fits(whole)) return whole;
  }
  const result = frozen(plain, receiveQueue, finished ? 1 : 0);
  if (fits(result)) return result;
  throw new RefusedError(`too much of its input is not used yet: its record would have ${result.bytes.length} bytes`);
}

/**
 * What lies in the socket unread goes along with the socket, not acknowledged. Only a client's FIN cannot be rebuilt as unread: then
 * all the input that is left is spool of the record. Where it has no room there the FIN is left out: as it was never
 * acknowledged, the client sends it again.
 */
function withAllInput(record: ConnectionRecord, unread: Buffer): ConnectionRecord {
  return {
    ...record,
    spool: Buffer.concat([record.spool, unread]),
    consumed: record.consumed + unread.length + 1,
    clientFinished: true,
  };
}

function socketState({ window, options, ...image }: SocketImage, entry: GuardEntry, unread: Buffer): SocketState {
  return {
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
    unread,
  };
}
