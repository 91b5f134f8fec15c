import type { GuardEntry, GuardPhase } from "../../bpf/guard_layout.js";

/** What an agent knows of a connection that it is about to rebuild. */
export interface NewEntry {
  phase: GuardPhase;
  /** Bits of `guardFlag`; 0 if left out. */
  flags?: number;
  incarnation: number;
  clientIsn: number;
  serverIsn: number;
  /** The highest ack number that may leave. */
  consumed: number;
  /** What the socket itself will acknowledge; `consumed` if left out. */
  kernelAck?: number;
  /** Next sequence number of ours as far as known; acks above it are late ones. */
  sendNext: number;
  /** Sequence number of the committed FIN; sets FIN_COMMITTED. */
  finSeq?: number;
  sendScale?: number;
  receiveScale?: number;
  /** Bits of `guardOption`; 0 if left out. */
  options?: number;
  mss?: number;
}

/** The whole entry: nothing has left yet, and nothing has come. @param nowNs CLOCK_MONOTONIC */
export function wholeEntry(entry: NewEntry, nowNs: bigint, finCommitted: number): GuardEntry {
  return {
    phase: entry.phase,
    flags: (entry.flags ?? 0) | (entry.finSeq === undefined ? 0 : finCommitted),
    tcpState: 0,
    sendScale: entry.sendScale,
    receiveScale: entry.receiveScale,
    options: entry.options ?? 0,
    mss: entry.mss ?? 0,
    incarnation: entry.incarnation,
    clientIsn: entry.clientIsn,
    serverIsn: entry.serverIsn,
    consumed: entry.consumed,
    finSeq: entry.finSeq ?? 0,
    sendNext: entry.sendNext,
    sentAck: entry.consumed,
    kernelAck: entry.kernelAck ?? entry.consumed,
    tsval: 0,
    tsecr: 0,
    window: 0,
    clampedSinceNs: 0n,
    lastEgressNs: nowNs,
    clientSeq: entry.consumed,
    clientAck: entry.sendNext,
  };
}
