/** The appliance's half of bpf/shared.h: codecs between the bytes of maps and objects. A test compares it with BTF. */
import type { ServicePort } from "../proto/config/index.js";
import { address16, addressText, type Flow } from "../proto/flow.js";
import { encodeService } from "./guard_layout.js";
import { type ServerState, serverStates } from "./vocabulary.js";

const TCP = 6;
const UDP = 17;

/** Field offsets of struct baton_flow. */
export const flowLayout = { client: 0, vip: 16, client_port: 32, vip_port: 34, transport: 36 } as const;
export const FLOW_BYTES = 40;

/** struct baton_flow: the key of every map of flows, here and on servers. */
export function flowKey(flow: Flow): Buffer {
  const key = Buffer.alloc(FLOW_BYTES);
  address16(flow.client.address).copy(key, flowLayout.client);
  address16(flow.vip.address).copy(key, flowLayout.vip);
  key.writeUInt16BE(flow.client.port, flowLayout.client_port);
  key.writeUInt16BE(flow.vip.port, flowLayout.vip_port);
  key[flowLayout.transport] = flow.transport === "udp" ? UDP : TCP;
  return key;
}

/** The flow at the start of `bytes`: a map's key, or a record of a ring buffer. */
export function flowFromKey(bytes: Buffer): Flow {
  return {
    client: {
      address: addressText(bytes.subarray(flowLayout.client, flowLayout.client + 16)),
      port: bytes.readUInt16BE(flowLayout.client_port),
    },
    vip: {
      address: addressText(bytes.subarray(flowLayout.vip, flowLayout.vip + 16)),
      port: bytes.readUInt16BE(flowLayout.vip_port),
    },
    transport: bytes[flowLayout.transport] === UDP ? "udp" : "tcp",
  };
}

/** Key of an array map: little-endian, as the machine is. */
export function indexKey(index: number): Buffer {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(index);
  return key;
}

/** Field offsets of struct baton_server. */
export const serverLayout = { mac: 0, state: 6, generation: 8 } as const;
export const SERVER_BYTES = 12;

export interface Server {
  /** 6 bytes */
  mac: Buffer;
  state: ServerState;
  generation: number;
}

export function encodeServer(server: Server): Buffer {
  const bytes = Buffer.alloc(SERVER_BYTES);
  server.mac.copy(bytes, serverLayout.mac, 0, 6);
  bytes[serverLayout.state] = serverStates.indexOf(server.state);
  bytes.writeUInt32LE(server.generation, serverLayout.generation);
  return bytes;
}

export function decodeServer(bytes: Buffer): Server {
  return {
    mac: Buffer.from(bytes.subarray(serverLayout.mac, serverLayout.mac + 6)),
    state: serverStates[bytes[serverLayout.state] ?? 0] ?? "down",
    generation: bytes.readUInt32LE(serverLayout.generation),
  };
}

/** struct baton_mac as the key of `server_macs`. @param mac 6 bytes */
export function macKey(mac: Buffer): Buffer {
  return Buffer.concat([mac, Buffer.alloc(2)], 8);
}

/** Field offsets of struct baton_syn. */
export const synLayout = { isn: 0, mss: 4, wscale: 6, flags: 7 } as const;
/** BATON_SYN_* */
export const synFlag = { SACK: 1, TIMESTAMPS: 2, SEEN: 4 } as const;
const NO_SCALE = 0xff;

/** What a client's SYN said. */
export interface Syn {
  isn: number;
  /** 0: not offered */
  mss: number;
  windowScale: number | undefined;
  sack: boolean;
  timestamps: boolean;
}

function decodeSyn(bytes: Buffer, at: number): Syn | undefined {
  const flags = bytes[at + synLayout.flags] ?? 0;
  const scale = bytes[at + synLayout.wscale];
  if (!(flags & synFlag.SEEN)) return undefined;
  return {
    isn: bytes.readUInt32LE(at + synLayout.isn),
    mss: bytes.readUInt16LE(at + synLayout.mss),
    windowScale: scale === NO_SCALE ? undefined : scale,
    sack: (flags & synFlag.SACK) !== 0,
    timestamps: (flags & synFlag.TIMESTAMPS) !== 0,
  };
}

/** Field offsets of struct baton_recent. */
export const recentLayout = {
  client: 0,
  client_port: 16,
  vip_port: 18,
  vip: 20,
  flags: 21,
  slot: 22,
  generation: 24,
  syn: 28,
  new_syn: 36,
  ack: 44,
  seq: 48,
  tsval: 52,
  tsecr: 56,
  window: 60,
  check: 62,
} as const;
export const RECENT_BYTES = 64;
/** BATON_RECENT_TENTATIVE */
const TENTATIVE = 1;

export interface RecentLine {
  client: Buffer;
  clientPort: number;
  vipPort: number;
  /** Index into the VIPs of its family, +16 for IPv6; 0xff: being written. */
  vip: number;
  /** Made by a SYN, its handshake not ended yet. */
  tentative: boolean;
  slot: number;
  generation: number;
  syn: Syn | undefined;
  newSyn: Syn | undefined;
  ack: number;
  seq: number;
  tsval: number;
  tsecr: number;
  window: number;
}

export function decodeRecent(bytes: Buffer): RecentLine {
  return {
    client: Buffer.from(bytes.subarray(0, 16)),
    clientPort: bytes.readUInt16BE(recentLayout.client_port),
    vipPort: bytes.readUInt16BE(recentLayout.vip_port),
    vip: bytes[recentLayout.vip] ?? 0,
    tentative: ((bytes[recentLayout.flags] ?? 0) & TENTATIVE) !== 0,
    slot: bytes.readUInt16LE(recentLayout.slot),
    generation: bytes.readUInt32LE(recentLayout.generation),
    syn: decodeSyn(bytes, recentLayout.syn),
    newSyn: decodeSyn(bytes, recentLayout.new_syn),
    ack: bytes.readUInt32LE(recentLayout.ack),
    seq: bytes.readUInt32LE(recentLayout.seq),
    tsval: bytes.readUInt32LE(recentLayout.tsval),
    tsecr: bytes.readUInt32LE(recentLayout.tsecr),
    window: bytes.readUInt16LE(recentLayout.window),
  };
}

/** Field offsets of struct baton_exception. */
export const exceptionLayout = { slot: 0, flags: 2, generation: 4 } as const;
export const EXCEPTION_BYTES = 8;
/** BATON_EXCEPTION_HOLD */
const EXCEPTION_HOLD = 1;

export interface Exception {
  slot: number;
  generation: number;
  /** A migration: the flow's hold, if there is one, comes first. */
  hold: boolean;
}

export function encodeException(exception: Exception): Buffer {
  const bytes = Buffer.alloc(EXCEPTION_BYTES);
  bytes.writeUInt16LE(exception.slot, exceptionLayout.slot);
  bytes.writeUInt16LE(exception.hold ? EXCEPTION_HOLD : 0, exceptionLayout.flags);
  bytes.writeUInt32LE(exception.generation, exceptionLayout.generation);
  return bytes;
}

export function decodeException(bytes: Buffer): Exception {
  return {
    slot: bytes.readUInt16LE(exceptionLayout.slot),
    hold: (bytes.readUInt16LE(exceptionLayout.flags) & EXCEPTION_HOLD) !== 0,
    generation: bytes.readUInt32LE(exceptionLayout.generation),
  };
}

/** Field offsets of struct baton_related. */
export const relatedLayout = { client_port: 0, vip_port: 2, client_isn: 4 } as const;
export const RELATED_BYTES = 8;

/** The control connection of a related flow, which has the same addresses. */
export interface Control {
  clientPort: number;
  vipPort: number;
  clientIsn: number;
}

export function encodeRelated(control: Control): Buffer {
  const bytes = Buffer.alloc(RELATED_BYTES);
  bytes.writeUInt16BE(control.clientPort, relatedLayout.client_port);
  bytes.writeUInt16BE(control.vipPort, relatedLayout.vip_port);
  bytes.writeUInt32LE(control.clientIsn, relatedLayout.client_isn);
  return bytes;
}

export function decodeRelated(bytes: Buffer): Control {
  return {
    clientPort: bytes.readUInt16BE(relatedLayout.client_port),
    vipPort: bytes.readUInt16BE(relatedLayout.vip_port),
    clientIsn: bytes.readUInt32LE(relatedLayout.client_isn),
  };
}

/** BATON_SERVICE_*: values of `services`. */
export const serviceKind = { OWN: 1, RELATED: 2 } as const;

/** Key and value in `services`, on the appliance and on a server. */
export function serviceEntry({ port, transport, related }: ServicePort): readonly [key: Buffer, value: Buffer] {
  const kind = related ? serviceKind.RELATED : serviceKind.OWN;
  return [encodeService(port, transport === "udp" ? UDP : TCP), indexKey(kind)];
}

/** Field offsets of struct baton_maglev: two positions an element. */
export const maglevLayout = { main: 0, heir: 4 } as const;
export const MAGLEV_BYTES = 8;

/** Field offsets of struct baton_hold. */
export const holdLayout = { lock: 0, held: 4, bytes: 8, deadline_ns: 16, slot: 24, state: 26 } as const;
export const HOLD_BYTES = 32;
/** enum baton_hold_state */
const holdStates = ["", "holding", "released"] as const;

export interface Hold {
  /** Tickets taken. */
  held: number;
  bytes: bigint;
  /** CLOCK_MONOTONIC */
  deadlineNs: bigint;
  /** Committed owner; 0: none. */
  slot: number;
  state: "holding" | "released";
}

/** A hold as it begins, its lock free. */
export function encodeHold(hold: { deadlineNs: bigint; slot: number }): Buffer {
  const bytes = Buffer.alloc(HOLD_BYTES);
  bytes.writeBigUInt64LE(hold.deadlineNs, holdLayout.deadline_ns);
  bytes.writeUInt16LE(hold.slot, holdLayout.slot);
  bytes[holdLayout.state] = holdStates.indexOf("holding");
  return bytes;
}

export function decodeHold(bytes: Buffer): Hold {
  return {
    held: bytes.readUInt32LE(holdLayout.held),
    bytes: bytes.readBigUInt64LE(holdLayout.bytes),
    deadlineNs: bytes.readBigUInt64LE(holdLayout.deadline_ns),
    slot: bytes.readUInt16LE(holdLayout.slot),
    state: bytes[holdLayout.state] === 2 ? "released" : "holding",
  };
}

/** Field offsets of struct baton_held_packet; its frame begins at HELD_PACKET_BYTES. */
export const heldPacketLayout = {
  flow: 0,
  time_ns: 40,
  ticket: 48,
  length: 52,
  reason: 56,
  slot: 60,
} as const;
export const HELD_PACKET_BYTES = 64;
/** enum baton_held_reason */
export const heldReason = { FLOW: 1, BOUNCED: 2 } as const;

/** Field offsets of struct baton_release_args. */
export const releaseLayout = { flow: 0, sent: 40, slot: 44, done: 48 } as const;
export const RELEASE_BYTES = 52;
