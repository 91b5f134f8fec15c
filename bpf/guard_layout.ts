/** The server's half of bpf/shared.h: constants, and codecs between the bytes of maps and objects. */

/** SO_MARK of the agent's raw sockets (BATON_MARK). */
export const BATON_MARK = 0xba70;

/** enum baton_guard_phase. */
export const guardPhase = { LIVE: 1, PROBE: 2, SILENT: 3, FROZEN: 4, ENDED: 5 } as const;
export type GuardPhase = keyof typeof guardPhase;
const phaseNames = new Map(Object.entries(guardPhase).map(([name, number]) => [number as number, name as GuardPhase]));

/** BATON_GUARD_*: bits of `flags`. */
export const guardFlag = {
  FIN_COMMITTED: 1,
  RST_ASKED: 2,
  WATCH_LATE: 4,
  UNPROTECTED: 8,
  FIN_ASKED: 16,
} as const;

/** BATON_SYN_*: bits of `options`; COOKIE: the connection was born from a SYN cookie. */
export const guardOption = { SACK: 1, TIMESTAMPS: 2, COOKIE: 4 } as const;

/** BATON_CHANGE_* */
const changeBit = { CONSUMED: 1, FIN: 2, PHASE: 4, FLAGS: 8, INCARNATION: 16, SND_NXT: 32, SAID: 64 } as const;

/** enum baton_guard_event_type. */
export const guardEventType = { ANSWER: 1, STATE: 2, SILENCED: 3, LATE_ACK: 4 } as const;
export type GuardEventType = keyof typeof guardEventType;
const eventNames = new Map(Object.entries(guardEventType).map(([name, n]) => [n as number, name as GuardEventType]));

/** A window scale that was not negotiated. */
const NO_SCALE = 0xff;

/** Field offsets of struct baton_guarded. */
export const guardedLayout = {
  phase: 0,
  flags: 1,
  tcp_state: 2,
  snd_wscale: 3,
  rcv_wscale: 4,
  options: 5,
  mss: 6,
  incarnation: 8,
  client_isn: 16,
  server_isn: 20,
  consumed: 24,
  fin_seq: 28,
  snd_nxt: 32,
  sent_ack: 36,
  kernel_ack: 40,
  tsval: 44,
  tsecr: 48,
  window: 52,
  clamped_since_ns: 56,
  last_egress_ns: 64,
  client_seq: 72,
  client_ack: 76,
} as const;
export const GUARDED_BYTES = 80;

/** Field offsets of struct baton_guard_change. */
export const guardChangeLayout = {
  flow: 0,
  what: 40,
  consumed: 44,
  fin_seq: 48,
  snd_nxt: 52,
  phase: 56,
  flags_set: 57,
  flags_clear: 58,
  found: 59,
  pad: 60,
  incarnation: 64,
  entry: 72,
} as const;
export const GUARD_CHANGE_BYTES = 152;

/** Field offsets of struct baton_guard_event. */
export const guardEventLayout = {
  flow: 0,
  time_ns: 40,
  type: 48,
  tcp_flags: 49,
  tcp_state: 50,
  has_timestamps: 51,
  seq: 52,
  ack: 56,
  payload: 60,
  window: 64,
  tsval: 68,
  tsecr: 72,
} as const;
export const GUARD_EVENT_BYTES = 80;

/** Field offsets of struct baton_guard_sweep. */
export const guardSweepLayout = { before_ns: 0, removed: 8, count: 12, pad: 36 } as const;
export const GUARD_SWEEP_BYTES = 40;
const GUARD_PHASES = 6;

/** Field offsets of struct baton_lease. */
export const leaseLayout = { until_ns: 0, incarnation: 8, unfenced: 16 } as const;
export const LEASE_BYTES = 24;

/** Field offsets of struct baton_service and struct baton_mac. */
export const serviceLayout = { port: 0, transport: 2, pad: 3 } as const;
export const SERVICE_BYTES = 4;
export const macLayout = { bytes: 0, set: 6, pad: 7 } as const;
export const MAC_BYTES = 8;

/**
 * A guard entry. Sequence numbers, acks and timestamps are unsigned 32-bit, windows as on the wire, times CLOCK_MONOTONIC
 * nanoseconds.
 */
export interface GuardEntry {
  phase: GuardPhase;
  /** Bits of `guardFlag`. */
  flags: number;
  /** As include/net/tcp_states.h; 0: not known. */
  tcpState: number;
  /** The client's and our shift count; undefined: not negotiated. */
  sendScale: number | undefined;
  receiveScale: number | undefined;
  /** Bits of `guardOption`. */
  options: number;
  mss: number;
  incarnation: number;
  clientIsn: number;
  serverIsn: number;
  /** The highest ack number that may leave. */
  consumed: number;
  finSeq: number;
  /** End of the highest segment that left. */
  sendNext: number;
  /** The highest ack that left, and what the kernel had last put there. */
  sentAck: number;
  kernelAck: number;
  tsval: number;
  tsecr: number;
  window: number;
  /** 0n: the client was told all that the kernel has acknowledged; else since when not, or since `consumed` last moved. */
  clampedSinceNs: bigint;
  lastEgressNs: bigint;
  /** The client's last segment: its end and its ack. */
  clientSeq: number;
  clientAck: number;
}

export function encodeGuarded(entry: GuardEntry): Buffer {
  const at = guardedLayout;
  const bytes = Buffer.alloc(GUARDED_BYTES);
  bytes[at.phase] = guardPhase[entry.phase];
  bytes[at.flags] = entry.flags;
  bytes[at.tcp_state] = entry.tcpState;
  bytes[at.snd_wscale] = entry.sendScale ?? NO_SCALE;
  bytes[at.rcv_wscale] = entry.receiveScale ?? NO_SCALE;
  bytes[at.options] = entry.options;
  bytes.writeUInt16LE(entry.mss, at.mss);
  bytes.writeBigUInt64LE(BigInt(entry.incarnation), at.incarnation);
  bytes.writeUInt32LE(entry.clientIsn, at.client_isn);
  bytes.writeUInt32LE(entry.serverIsn, at.server_isn);
  bytes.writeUInt32LE(entry.consumed, at.consumed);
  bytes.writeUInt32LE(entry.finSeq, at.fin_seq);
  bytes.writeUInt32LE(entry.sendNext, at.snd_nxt);
  bytes.writeUInt32LE(entry.sentAck, at.sent_ack);
  bytes.writeUInt32LE(entry.kernelAck, at.kernel_ack);
  bytes.writeUInt32LE(entry.tsval, at.tsval);
  bytes.writeUInt32LE(entry.tsecr, at.tsecr);
  bytes.writeUInt32LE(entry.window, at.window);
  bytes.writeBigUInt64LE(entry.clampedSinceNs, at.clamped_since_ns);
  bytes.writeBigUInt64LE(entry.lastEgressNs, at.last_egress_ns);
  bytes.writeUInt32LE(entry.clientSeq, at.client_seq);
  bytes.writeUInt32LE(entry.clientAck, at.client_ack);
  return bytes;
}

/** @param offset where in `bytes` the entry begins */
export function decodeGuarded(bytes: Buffer, offset = 0): GuardEntry {
  const at = guardedLayout;
  const u8 = (field: number) => bytes.readUInt8(offset + field);
  const u32 = (field: number) => bytes.readUInt32LE(offset + field);
  const scale = (field: number) => (u8(field) === NO_SCALE ? undefined : u8(field));
  return {
    phase: known(phaseNames, u8(at.phase), "phase"),
    flags: u8(at.flags),
    tcpState: u8(at.tcp_state),
    sendScale: scale(at.snd_wscale),
    receiveScale: scale(at.rcv_wscale),
    options: u8(at.options),
    mss: bytes.readUInt16LE(offset + at.mss),
    incarnation: Number(bytes.readBigUInt64LE(offset + at.incarnation)),
    clientIsn: u32(at.client_isn),
    serverIsn: u32(at.server_isn),
    consumed: u32(at.consumed),
    finSeq: u32(at.fin_seq),
    sendNext: u32(at.snd_nxt),
    sentAck: u32(at.sent_ack),
    kernelAck: u32(at.kernel_ack),
    tsval: u32(at.tsval),
    tsecr: u32(at.tsecr),
    window: u32(at.window),
    clampedSinceNs: bytes.readBigUInt64LE(offset + at.clamped_since_ns),
    lastEgressNs: bytes.readBigUInt64LE(offset + at.last_egress_ns),
    clientSeq: u32(at.client_seq),
    clientAck: u32(at.client_ack),
  };
}

/** What to change on a living entry; what is left out stays as it is. */
export interface GuardChange {
  /** Only ever forward, modulo 2^32; a lower one is ignored. */
  consumed?: number;
  /** The sequence number that the FIN may occupy; sets FIN_COMMITTED. */
  finSeq?: number;
  /** A SILENT entry does not become LIVE: a rebuilt socket goes through PROBE. */
  phase?: GuardPhase;
  /** Bits of `guardFlag`. */
  setFlags?: number;
  clearFlags?: number;
  incarnation?: number;
  /** Where a rebuilt socket begins to send; only ever forward. With WATCH_LATE acks above it are reported. */
  sendNext?: number;
  /** What the kernel of a rebuilt socket believes to have said: nudges are made of it until it says something itself. */
  said?: Pick<GuardEntry, "window" | "tsval" | "tsecr">;
}

/** @param flow 40 bytes, struct baton_flow */
export function encodeGuardChange(flow: Buffer, change: GuardChange): Buffer {
  const at = guardChangeLayout;
  const bytes = Buffer.alloc(GUARD_CHANGE_BYTES);
  let what = 0;
  flow.copy(bytes, at.flow);
  if (change.consumed !== undefined) {
    what |= changeBit.CONSUMED;
    bytes.writeUInt32LE(change.consumed, at.consumed);
  }
  if (change.finSeq !== undefined) {
    what |= changeBit.FIN;
    bytes.writeUInt32LE(change.finSeq, at.fin_seq);
  }
  if (change.phase !== undefined) {
    what |= changeBit.PHASE;
    bytes[at.phase] = guardPhase[change.phase];
  }
  if (change.setFlags !== undefined || change.clearFlags !== undefined) {
    what |= changeBit.FLAGS;
    bytes[at.flags_set] = change.setFlags ?? 0;
    bytes[at.flags_clear] = change.clearFlags ?? 0;
  }
  if (change.incarnation !== undefined) {
    what |= changeBit.INCARNATION;
    bytes.writeBigUInt64LE(BigInt(change.incarnation), at.incarnation);
  }
  if (change.sendNext !== undefined) {
    what |= changeBit.SND_NXT;
    bytes.writeUInt32LE(change.sendNext, at.snd_nxt);
  }
  if (change.said !== undefined) {
    what |= changeBit.SAID;
    bytes.writeUInt32LE(change.said.window, at.entry + guardedLayout.window);
    bytes.writeUInt32LE(change.said.tsval, at.entry + guardedLayout.tsval);
    bytes.writeUInt32LE(change.said.tsecr, at.entry + guardedLayout.tsecr);
  }
  bytes.writeUInt32LE(what, at.what);
  return bytes;
}

/** The entry as it is after the change, or undefined if there is none. */
export function decodeGuardChange(bytes: Buffer): GuardEntry | undefined {
  return bytes[guardChangeLayout.found] ? decodeGuarded(bytes, guardChangeLayout.entry) : undefined;
}

/** What struct baton_guard_event says besides its flow. */
export interface GuardEventFields {
  type: GuardEventType;
  timeNs: bigint;
  /** State of the socket; for STATE and SILENCED the one it goes to. */
  tcpState: number;
  /** The client's segment, for ANSWER and LATE_ACK: bits FIN 1, SYN 2, RST 4, ACK 16. */
  tcpFlags: number;
  seq: number;
  ack: number;
  payload: number;
  window: number;
  timestamps: { value: number; echo: number } | undefined;
}

export function decodeGuardEvent(bytes: Buffer): GuardEventFields {
  const at = guardEventLayout;
  return {
    type: known(eventNames, bytes.readUInt8(at.type), "event"),
    timeNs: bytes.readBigUInt64LE(at.time_ns),
    tcpState: bytes.readUInt8(at.tcp_state),
    tcpFlags: bytes.readUInt8(at.tcp_flags),
    seq: bytes.readUInt32LE(at.seq),
    ack: bytes.readUInt32LE(at.ack),
    payload: bytes.readUInt32LE(at.payload),
    window: bytes.readUInt32LE(at.window),
    timestamps: bytes[at.has_timestamps]
      ? { value: bytes.readUInt32LE(at.tsval), echo: bytes.readUInt32LE(at.tsecr) }
      : undefined,
  };
}

export function encodeGuardSweep(beforeNs: bigint): Buffer {
  const bytes = Buffer.alloc(GUARD_SWEEP_BYTES);
  bytes.writeBigUInt64LE(beforeNs, guardSweepLayout.before_ns);
  return bytes;
}

/** Entries that were removed, and those that remain: by phase, and `stale` of earlier incarnations. */
export interface GuardCensus {
  removed: number;
  stale: number;
  phases: Record<GuardPhase, number>;
}

export function decodeGuardSweep(bytes: Buffer): GuardCensus {
  const counts = Array.from({ length: GUARD_PHASES }, (_, i) => bytes.readUInt32LE(guardSweepLayout.count + 4 * i));
  const phases = Object.fromEntries(Object.entries(guardPhase).map(([name, i]) => [name, counts[i] ?? 0]));
  return {
    removed: bytes.readUInt32LE(guardSweepLayout.removed),
    stale: counts[0] ?? 0,
    phases: phases as Record<GuardPhase, number>,
  };
}

/** `untilNs`: CLOCK_MONOTONIC; 0n is fenced. `unfenced`: time is not looked at. */
export interface GuardLease {
  untilNs: bigint;
  incarnation: number;
  unfenced: boolean;
}

export function encodeLease(lease: GuardLease): Buffer {
  const bytes = Buffer.alloc(LEASE_BYTES);
  bytes.writeBigUInt64LE(lease.untilNs, leaseLayout.until_ns);
  bytes.writeBigUInt64LE(BigInt(lease.incarnation), leaseLayout.incarnation);
  bytes.writeBigUInt64LE(lease.unfenced ? 1n : 0n, leaseLayout.unfenced);
  return bytes;
}

export function decodeLease(bytes: Buffer): GuardLease {
  return {
    untilNs: bytes.readBigUInt64LE(leaseLayout.until_ns),
    incarnation: Number(bytes.readBigUInt64LE(leaseLayout.incarnation)),
    unfenced: bytes.readBigUInt64LE(leaseLayout.unfenced) !== 0n,
  };
}

/** @param transport IPPROTO_TCP 6, IPPROTO_UDP 17 */
export function encodeService(port: number, transport: number): Buffer {
  const bytes = Buffer.alloc(SERVICE_BYTES);
  bytes.writeUInt16BE(port, serviceLayout.port);
  bytes[serviceLayout.transport] = transport;
  return bytes;
}

/** @param mac "02:ba:70:00:00:01" @param set 1 for the element of `way_back`, 0 for a key of `appliances` */
export function encodeMac(mac: string, set: 0 | 1): Buffer {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) throw new RangeError(`not a MAC address: "${mac}"`);
  const bytes = Buffer.alloc(MAC_BYTES);
  Buffer.from(mac.replaceAll(":", ""), "hex").copy(bytes, macLayout.bytes);
  bytes[macLayout.set] = set;
  return bytes;
}

function known<T>(names: Map<number, T>, number: number, what: string): T {
  const name = names.get(number);
  if (name === undefined) throw new RangeError(`the guard has no ${what} ${number}`);
  return name;
}
