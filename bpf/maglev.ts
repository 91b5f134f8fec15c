import { createHash } from "node:crypto";
import type { Flow } from "../proto/flow.js";
import { flowKey, flowLayout } from "./layout.js";

/** Positions in a table: a prime, as in the paper (Eisenbud et al., NSDI 2016, section 3.4). BATON_MAGLEV_SIZE. */
export const MAGLEV_SIZE = 65537;

// bpf/flow_hash.h: BATON_HASH_SEED, _MIX and _LAST as halves.
const SEED = [0x9e3779b9, 0x7f4a7c15] as const;
const MIX = [0xd6e8feb8, 0x6659fd93] as const;
const LAST = [0xff51afd7, 0xed558ccd] as const;

/** A 64 bit number as two halves: BigInt takes some fifty times as long. */
class Word {
  constructor(
    public high: number,
    public low: number,
  ) {}

  /** Modulo 2^64. */
  multiply([high, low]: readonly [number, number]): void {
    const a0 = this.low & 0xffff;
    const a1 = this.low >>> 16;
    const b0 = low & 0xffff;
    const b1 = low >>> 16;
    const low0 = a0 * b0;
    const middle0 = a1 * b0 + (low0 >>> 16);
    const middle1 = (middle0 & 0xffff) + a0 * b1;
    const carry = a1 * b1 + (middle0 >>> 16) + (middle1 >>> 16);
    this.high = (carry + Math.imul(this.low, high) + Math.imul(this.high, low)) >>> 0;
    this.low = ((middle1 << 16) | (low0 & 0xffff)) >>> 0;
  }

  /** hash_mix of bpf/flow_hash.h. */
  mix(high: number, low: number): void {
    this.high = (this.high ^ high) >>> 0;
    this.low = (this.low ^ low) >>> 0;
    this.multiply(MIX);
    this.low = (this.low ^ this.high) >>> 0;
  }
}

function seedWord(bytes: Buffer, vip: number): Word {
  const word = new Word(SEED[0], SEED[1]);
  word.mix(bytes.readUInt32LE(vip + 4), bytes.readUInt32LE(vip));
  word.mix(bytes.readUInt32LE(vip + 12), bytes.readUInt32LE(vip + 8));
  return word;
}

/** Where the hash of a VIP's flows begins. @param vip 16 bytes */
export function vipSeed(vip: Buffer): bigint {
  const { high, low } = seedWord(vip, 0);
  return (BigInt(high) << 32n) | BigInt(low);
}

/** flow_hash of bpf/flow_hash.h, 32 bits. @param key struct baton_flow */
export function flowHashOfKey(key: Buffer): number {
  const { client, client_port } = flowLayout;
  const word = seedWord(key, flowLayout.vip);
  const ports = key.readUInt32LE(client_port);
  const [c0, c1, c2, c3] = [0, 4, 8, 12].map((at) => key.readUInt32LE(client + at)) as [number, number, number, number];
  if (c0 === 0 && c1 === 0 && c2 === 0xffff0000) {
    word.mix(ports, c3);
  } else {
    word.mix(c1, c0);
    word.mix(c3, c2);
    word.mix(0, ports);
  }
  word.multiply(LAST);
  return word.high;
}

/** What Maglev, the appliance's tables and every survivor go by. 32 bits. */
export function flowHash(flow: Flow): number {
  return flowHashOfKey(flowKey(flow));
}

/**
 * Maglev's lookup table: for each of MAGLEV_SIZE positions an index into `names`; empty without names. Depends on the set of
 * names alone, not on their order. Names take turns at claiming the next free position of their own permutation (section
 * 3.4), so that shares differ by at most one and little moves when a name comes or goes.
 */
export function maglevTable(names: string[]): Uint16Array {
  const key = names.join("\0");
  const known = remembered.get(key);
  if (known) return known;
  const table = fill(names);
  if (remembered.size >= REMEMBERED_MAX) remembered.delete(remembered.keys().next().value as string);
  remembered.set(key, table);
  return table;
}

/**
 * A takeover must not wait for its table: whoever may need one of these asks once ahead of time. Tables are shared: nobody
 * writes into one.
 */
const remembered = new Map<string, Uint16Array>();
const REMEMBERED_MAX = 64;

function fill(names: string[]): Uint16Array {
  const table = new Uint16Array(names.length === 0 ? 0 : MAGLEV_SIZE);
  const taken = new Uint8Array(MAGLEV_SIZE);
  const order = names.map((_, index) => index).sort((a, b) => ((names[a] ?? "") < (names[b] ?? "") ? -1 : 1));
  const next = new Uint32Array(names.length);
  const skip = new Uint32Array(names.length);
  for (const [turn, index] of order.entries()) {
    const digest = createHash("sha256")
      .update(names[index] ?? "")
      .digest();
    next[turn] = digest.readUInt32LE(0) % MAGLEV_SIZE;
    skip[turn] = (digest.readUInt32LE(4) % (MAGLEV_SIZE - 1)) + 1;
  }
  for (let filled = 0, turn = 0; filled < table.length; filled++) {
    let position = next[turn] as number;
    const step = skip[turn] as number;
    while (taken[position]) {
      position += step;
      if (position >= MAGLEV_SIZE) position -= MAGLEV_SIZE; // much cheaper than %, and this runs 700,000 times
    }
    taken[position] = 1;
    table[position] = order[turn] as number;
    next[turn] = position;
    turn = turn + 1 === order.length ? 0 : turn + 1;
  }
  return table;
}
