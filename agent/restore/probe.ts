import type { Flow } from "../../proto/flow.js";
import { add, type Offset, type Sequence, toSequence } from "../../proto/sequence.js";
import { endpointsOf } from "../connection/host.js";
import type { Segment } from "../native/api.js";

/** What a probe is made of: the record alone, never a packet. */
export interface ProbeSubject {
  flow: Flow;
  clientIsn: Sequence;
  serverIsn: Sequence;
  timestamps: boolean;
  /** The client has acknowledged everything below. */
  floor: Offset;
  /** The byte before `floor`; none while `floor` is 0. */
  floorByte: Buffer;
  /** Client stream taken in, FIN included. */
  consumed: Offset;
}

/** Unscaled; the client only needs to see that there is room. */
const PROBE_WINDOW = 512;

/**
 * One byte that the client certainly has, at its own place: it answers at once with its exact ack (RFC 9293 section 3.10.7.4,
 * an unacceptable segment is acknowledged). It is the true byte, so that it could do no harm even in the wrong place; while nothing is
 * acknowledged it lies at the SYN's own sequence number, where no stream has a byte.
 *
 *      ... [ byte ] | floor .......... the client's ack is here or further on
 */
export function probe(subject: ProbeSubject, tsval: number): Segment {
  return {
    ...endpointsOf(subject.flow),
    seq: add(toSequence(subject.serverIsn, subject.floor), -1),
    ack: toSequence(subject.clientIsn, subject.consumed),
    flags: 0x10,
    window: PROBE_WINDOW,
    payload: subject.floorByte.length === 1 ? subject.floorByte : Buffer.alloc(1),
    ...(subject.timestamps ? { timestamps: { value: tsval, echo: 0 } } : {}),
  };
}
