import net from "node:net";
import test from "ava";
import { type BpfObject, binding } from "../../bpf/binding/index.js";
import {
  decodeGuardChange,
  decodeGuarded,
  encodeGuardChange,
  encodeGuarded,
  encodeLease,
  encodeMac,
  encodeService,
  type GuardEntry,
  guardFlag,
} from "../../bpf/guard_layout.js";
import { flowKey, indexKey, serviceKind } from "../../bpf/layout.js";
import { guardVerdicts } from "../../bpf/vocabulary.js";
import { address16, type Flow } from "../../proto/flow.js";
import { bpfObject } from "../../proto/paths.js";
import {
  APPLIANCE_MAC,
  type Frame,
  OWN_MAC,
  readFrame,
  TCP,
  tcpFrame,
  timestamps,
  udpFrame,
  wrap,
} from "./guard/packet.js";

/**
 * One packet in, one verdict and one packet out, by BPF_PROG_TEST_RUN. Nothing is attached. The VIP is a loopback address,
 * so that the sockets of this very process are "here".
 */

const VIP = "127.77.0.100";
const VIP6 = "::1";
const CLIENT = "127.77.0.10";
const CLIENT6 = "fd77::10";
const STRANGER = "127.77.0.9";
const ONE = Buffer.from([1, 0, 0, 0]);
const FIRST = Buffer.alloc(4);
const MARK = 0xba70;
const XDP = { DROP: 1, PASS: 2, REDIRECT: 4 };
const TCX = { NEXT: 0xffffffff, DROP: 2 };
const CONSUMED = 5000;
const SERVER_SEQ = 9000;
const BIRTHS_MAX = 60;
const MEDIA_PORT = 30_000;

let guard: BpfObject;
let listener: net.Server;
let port = 0;

test.before(async () => {
  guard = binding.load(bpfObject("guard"), {
    rodata: { netns_inode: binding.netnsInode(), clamp_shut_ns: 100_000_000n, births_max: BIRTHS_MAX },
    maxEntries: { flows: 64 },
  });
  listener = net.createServer({ allowHalfOpen: true }).listen(0, VIP);
  await new Promise((resolve) => listener.once("listening", resolve));
  port = (listener.address() as net.AddressInfo).port;
  for (const vip of [VIP, VIP6]) guard.map("vips").update(address16(vip), ONE);
  guard.map("services").update(encodeService(port, 6), ONE);
  guard.map("services").update(encodeService(MEDIA_PORT, 17), ONE);
});

test.after.always(() => {
  listener?.close();
  guard?.close();
});

test.beforeEach(() => {
  lease({ seconds: 60 });
  for (const [key] of guard.map("flows").entries()) guard.map("flows").delete(key);
  for (const [key] of guard.map("appliances").entries()) guard.map("appliances").delete(key);
  guard.map("way_back").update(FIRST, Buffer.alloc(8));
});

function lease({
  seconds,
  incarnation = 7,
  unfenced = false,
}: {
  seconds: number;
  incarnation?: number;
  unfenced?: boolean;
}) {
  const untilNs = seconds ? binding.monotonicNs() + BigInt(Math.round(seconds * 1e9)) : 0n;
  guard.map("lease").update(FIRST, encodeLease({ untilNs, incarnation, unfenced }));
}

function flowOf(v6 = false): Flow {
  return {
    client: { address: v6 ? CLIENT6 : CLIENT, port: 40000 },
    vip: { address: v6 ? VIP6 : VIP, port },
    transport: "tcp",
  };
}

const LIVE: GuardEntry = {
  phase: "LIVE",
  flags: 0,
  tcpState: 1,
  sendScale: 7,
  receiveScale: 7,
  options: 3,
  mss: 1460,
  incarnation: 7,
  clientIsn: 4000,
  serverIsn: 8000,
  consumed: CONSUMED,
  finSeq: 0,
  sendNext: SERVER_SEQ,
  sentAck: CONSUMED,
  kernelAck: CONSUMED,
  tsval: 0,
  tsecr: 0,
  window: 0,
  clampedSinceNs: 0n,
  lastEgressNs: 0n,
  clientSeq: CONSUMED,
  clientAck: SERVER_SEQ,
};

function enter(entry: Partial<GuardEntry>, v6 = false): void {
  guard.map("flows").update(flowKey(flowOf(v6)), encodeGuarded({ ...LIVE, ...entry }));
}

function entryNow(v6 = false): GuardEntry | undefined {
  const bytes = guard.map("flows").lookup(flowKey(flowOf(v6)));
  return bytes && decodeGuarded(bytes);
}

function verdictCounts(): number[] {
  return guardVerdicts.map((_, number) => {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(number);
    const perCpu = guard.map("guard_verdicts").lookup(key)!;
    let sum = 0;
    for (let at = 0; at < perCpu.length; at += 8) sum += Number(perCpu.readBigUInt64LE(at));
    return sum;
  });
}

/** Runs and returns the one verdict that was counted. */
function run(program: string, data: Buffer, mark = 0) {
  const context = Buffer.alloc(192);
  context.writeUInt32LE(mark, 8); // struct __sk_buff: len, pkt_type, mark
  const before = verdictCounts();
  const result = guard.program(program).testRun(program === "guard_egress" ? { data, context } : { data });
  const grown = verdictCounts()
    .map((count, i) => ({ name: guardVerdicts[i], by: count - before[i]! }))
    .filter(({ by }) => by !== 0);
  return { retval: result.retval >>> 0, out: result.dataOut, verdict: grown.map(({ name }) => name).join("+") };
}

/** A segment of the server. */
function reply(frame: Partial<Frame> = {}, v6 = false): Buffer {
  const flow = flowOf(v6);
  return tcpFrame({ from: flow.vip, to: flow.client, seq: SERVER_SEQ, ack: CONSUMED, ...frame });
}

/** A segment of the client. */
function segment(frame: Partial<Frame> = {}, v6 = false): Buffer {
  const flow = flowOf(v6);
  return tcpFrame({ from: flow.client, to: flow.vip, seq: CONSUMED, ack: SERVER_SEQ, ...frame });
}

const HELLO = Buffer.from("hello");

interface Egress {
  what: string;
  entry?: Partial<GuardEntry>;
  lease?: { seconds: number; incarnation?: number; unfenced?: boolean };
  packet?: Partial<Frame>;
  mark?: number;
  /** The port is one of related flows. */
  related?: boolean;
  verdict: string;
}

const egress: Egress[] = [
  { what: "data of a living connection", entry: {}, packet: { payload: HELLO }, verdict: "out_passed" },
  { what: "no entry", packet: { payload: HELLO }, verdict: "out_unknown" },
  { what: "a reset of the kernel for a socket that is not there", packet: { flags: TCP.RST }, verdict: "out_unknown" },
  { what: "SYN-ACK", packet: { flags: TCP.SYN | TCP.ACK }, verdict: "out_handshake" },
  {
    what: "SYN-ACK without a lease",
    lease: { seconds: 0 },
    packet: { flags: TCP.SYN | TCP.ACK },
    verdict: "out_fenced_lease",
  },
  { what: "SYN of a socket at the VIP's port", packet: { flags: TCP.SYN }, verdict: "out_unknown" },
  { what: "SYN from a port of related flows", packet: { flags: TCP.SYN }, related: true, verdict: "out_handshake" },
  {
    what: "SYN from a port of related flows, without a lease",
    lease: { seconds: 0 },
    packet: { flags: TCP.SYN },
    related: true,
    verdict: "out_fenced_lease",
  },
  { what: "lease run out", entry: {}, lease: { seconds: -0.001 }, verdict: "out_fenced_lease" },
  { what: "fenced", entry: {}, lease: { seconds: 0 }, verdict: "out_fenced_lease" },
  {
    what: "lease run out, policy serve-unprotected",
    entry: {},
    lease: { seconds: 0, unfenced: true },
    verdict: "out_passed",
  },
  { what: "another incarnation", entry: {}, lease: { seconds: 60, incarnation: 8 }, verdict: "out_fenced_incarnation" },
  {
    what: "another incarnation, serve-unprotected",
    entry: {},
    lease: { seconds: 0, incarnation: 8, unfenced: true },
    verdict: "out_fenced_incarnation",
  },
  { what: "silent", entry: { phase: "SILENT" }, verdict: "out_silent" },
  { what: "frozen", entry: { phase: "FROZEN" }, verdict: "out_silent" },
  { what: "unready", entry: { phase: "PROBE" }, verdict: "out_silent" },
  { what: "the agent's probe", entry: { phase: "PROBE" }, mark: MARK, verdict: "out_passed" },
  { what: "another mark", entry: { phase: "PROBE" }, mark: MARK + 1, verdict: "out_silent" },
  { what: "the mark on a silent connection", entry: { phase: "SILENT" }, mark: MARK, verdict: "out_silent" },
  { what: "the mark on a frozen connection", entry: { phase: "FROZEN" }, mark: MARK, verdict: "out_silent" },
  {
    what: "the mark without a lease",
    entry: { phase: "PROBE" },
    mark: MARK,
    lease: { seconds: 0 },
    verdict: "out_fenced_lease",
  },
  {
    what: "the mark in another incarnation",
    entry: { phase: "PROBE", incarnation: 6 },
    mark: MARK,
    verdict: "out_fenced_incarnation",
  },
  { what: "the mark without an entry", mark: MARK, verdict: "out_unknown" },
  { what: "RST", entry: {}, packet: { flags: TCP.RST }, verdict: "out_rst" },
  { what: "RST with the mark", entry: {}, packet: { flags: TCP.RST }, mark: MARK, verdict: "out_rst" },
  {
    what: "RST that was asked for",
    entry: { flags: guardFlag.RST_ASKED },
    packet: { flags: TCP.RST },
    verdict: "out_passed",
  },
  { what: "FIN", entry: {}, packet: { flags: TCP.FIN | TCP.ACK }, verdict: "out_fin" },
  {
    what: "FIN at the committed place, behind its data",
    entry: { flags: guardFlag.FIN_COMMITTED, finSeq: SERVER_SEQ + 5 },
    packet: { flags: TCP.FIN | TCP.ACK, payload: HELLO },
    verdict: "out_passed",
  },
  {
    what: "FIN one byte early",
    entry: { flags: guardFlag.FIN_COMMITTED, finSeq: SERVER_SEQ + 6 },
    packet: { flags: TCP.FIN | TCP.ACK, payload: HELLO },
    verdict: "out_fin",
  },
  {
    what: "FIN at the committed place over 2^32",
    entry: { flags: guardFlag.FIN_COMMITTED, finSeq: 3 },
    packet: { seq: 2 ** 32 - 2, flags: TCP.FIN | TCP.ACK, payload: HELLO },
    verdict: "out_passed",
  },
  {
    what: "FIN repeated after the end",
    entry: { phase: "ENDED", flags: guardFlag.FIN_COMMITTED, finSeq: SERVER_SEQ },
    packet: { flags: TCP.FIN | TCP.ACK },
    verdict: "out_passed",
  },
  {
    what: "ACK in TIME_WAIT, of anything",
    entry: { phase: "ENDED" },
    packet: { ack: CONSUMED + 1 },
    verdict: "out_passed",
  },
  { what: "RST after the end", entry: { phase: "ENDED" }, packet: { flags: TCP.RST }, verdict: "out_rst" },
  {
    what: "FIN of a killed, unprotected connection",
    entry: { flags: guardFlag.UNPROTECTED },
    packet: { flags: TCP.FIN | TCP.ACK },
    verdict: "out_fin",
  },
  {
    what: "FIN of an unprotected connection that the agent closes",
    entry: { flags: guardFlag.UNPROTECTED | guardFlag.FIN_ASKED },
    packet: { flags: TCP.FIN | TCP.ACK },
    verdict: "out_passed",
  },
  {
    what: "FIN_ASKED on a protected connection says nothing",
    entry: { flags: guardFlag.FIN_ASKED },
    packet: { flags: TCP.FIN | TCP.ACK },
    verdict: "out_fin",
  },
  { what: "an ack past what is committed", entry: {}, packet: { ack: CONSUMED + 1 }, verdict: "out_clamped" },
  { what: "the same, the agent's own", entry: {}, packet: { ack: CONSUMED + 1 }, mark: MARK, verdict: "out_clamped" },
  {
    what: "the same, unprotected",
    entry: { flags: guardFlag.UNPROTECTED },
    packet: { ack: CONSUMED + 1 },
    verdict: "out_passed",
  },
  {
    what: "a clamp that lasts",
    entry: { clampedSinceNs: 1n },
    packet: { ack: CONSUMED + 1 },
    verdict: "out_clamped_shut",
  },
  { what: "an ack past 2^32, committed", entry: { consumed: 10 }, packet: { ack: 2 ** 32 - 1 }, verdict: "out_passed" },
  {
    what: "an ack past 2^32, not committed",
    entry: { consumed: 2 ** 32 - 1 },
    packet: { ack: 10 },
    verdict: "out_clamped",
  },
];

for (const v6 of [false, true]) {
  for (const row of egress) {
    test.serial(`egress, IPv${v6 ? 6 : 4}: ${row.what}: ${row.verdict}`, (t) => {
      if (row.entry) enter(row.entry, v6);
      if (row.lease) lease(row.lease);
      const kind = row.related ? serviceKind.RELATED : serviceKind.OWN;
      guard.map("services").update(encodeService(port, 6), indexKey(kind));
      const { retval, verdict } = run("guard_egress", reply(row.packet, v6), row.mark);
      guard.map("services").update(encodeService(port, 6), ONE);
      t.is(verdict, row.verdict);
      const leaves = /passed|clamped|handshake/.test(row.verdict);
      t.is(retval, leaves ? TCX.NEXT : TCX.DROP);
    });
  }

  test.serial(`egress, IPv${v6 ? 6 : 4}: the clamp rewrites ack and window, the checksum stays right`, (t) => {
    enter({}, v6);
    const packet = { ack: CONSUMED + 700, window: 333, payload: HELLO, options: timestamps(77, 88) };
    const open = readFrame(run("guard_egress", reply(packet, v6)).out)!;
    t.like(open, { ack: CONSUMED, window: 333, checksumHolds: true });
    t.like(entryNow(v6), {
      sendNext: SERVER_SEQ + 5,
      sentAck: CONSUMED,
      kernelAck: CONSUMED + 700,
      window: 333,
      tsval: 77,
      tsecr: 88,
    });
    const since = entryNow(v6)!.clampedSinceNs;
    t.true(since > 0n);
    enter({ clampedSinceNs: since - 200_000_000n }, v6);
    const shut = readFrame(run("guard_egress", reply(packet, v6)).out)!;
    t.like(shut, { ack: CONSUMED, window: 0, checksumHolds: true });
    t.is(entryNow(v6)!.window, 333, "a nudge needs the kernel's window");
  });

  for (const [type, denied] of v6
    ? ([
        [1, true],
        [2, true],
        [3, true],
        [4, true],
        [129, false],
        [135, false],
      ] as const)
    : ([
        [0, false],
        [3, true],
        [11, true],
        [12, true],
        [8, false],
      ] as const)) {
    test.serial(
      `egress, ICMP${v6 ? "v6" : ""} type ${type} from a VIP ${denied ? "does not leave" : "leaves"}`,
      (t) => {
        const flow = flowOf(v6);
        const icmp = wrap({ from: flow.vip, to: flow.client }, v6 ? 58 : 1, Buffer.from([type, 0, 0, 0, 0, 0, 0, 0]));
        const { retval, verdict } = run("guard_egress", icmp);
        t.is(verdict, denied ? "out_icmp" : "out_not_vip");
        t.is(retval, denied ? TCX.DROP : TCX.NEXT);
      },
    );
  }

  test.serial(
    `ingress, IPv${v6 ? 6 : 4}: an unready connection's segment goes to the agent and no further`,
    async (t) => {
      enter({ phase: "PROBE" }, v6);
      t.like(run("guard_ingress", segment({ options: timestamps(5, 6) }, v6)), {
        retval: XDP.DROP,
        verdict: "in_answer",
      });
      enter({ phase: "FROZEN" }, v6);
      t.like(run("guard_ingress", segment({}, v6)), { retval: XDP.DROP, verdict: "in_not_here_dropped" });
      guard.map("appliances").update(encodeMac(APPLIANCE_MAC, 0), ONE);
      const back = run("guard_ingress", segment({}, v6));
      t.like(back, { retval: XDP.REDIRECT, verdict: "in_frozen" });
      t.like(readFrame(back.out), { sourceMac: OWN_MAC, destinationMac: APPLIANCE_MAC, checksumHolds: true });
      enter({ phase: "LIVE" }, v6);
      t.like(run("guard_ingress", segment({ ack: SERVER_SEQ - 1, payload: HELLO }, v6)), {
        retval: XDP.PASS,
        verdict: "in_here",
      });
      t.like(entryNow(v6), { clientSeq: CONSUMED + 5, clientAck: SERVER_SEQ - 1 });
    },
  );
}

test.serial("egress: what is not a VIP's, or not a service's, passes", (t) => {
  const flow = flowOf();
  t.is(run("guard_egress", reply({ from: { address: STRANGER, port } })).verdict, "out_not_vip");
  t.is(run("guard_egress", reply({ from: { address: VIP, port: 1 } })).verdict, "out_not_vip");
  t.is(run("guard_egress", wrap({ from: flow.vip, to: flow.client }, 17, Buffer.alloc(8))).verdict, "out_not_vip");
  const arp = reply();
  arp.writeUInt16BE(0x0806, 12);
  t.is(run("guard_egress", arp).verdict, "out_not_vip");
});

test.serial("egress: what cannot be read does not leave", (t) => {
  const short = reply();
  short[14 + 20 + 12] = 0x40; // a TCP header of 16 bytes
  t.like(run("guard_egress", short), { retval: TCX.DROP, verdict: "out_malformed" });
  const fragment = reply();
  fragment.writeUInt16BE(0x2000, 20);
  t.like(run("guard_egress", fragment), { retval: TCX.DROP, verdict: "out_fragment" });
});

test.serial("egress: the agent's own segments leave the memory of the kernel's alone", (t) => {
  enter({ kernelAck: CONSUMED + 700, clampedSinceNs: 5n, window: 9 });
  run("guard_egress", reply({ seq: SERVER_SEQ + 50, window: 1, payload: HELLO, options: timestamps(1, 2) }), MARK);
  t.like(entryNow(), { sendNext: SERVER_SEQ, kernelAck: CONSUMED + 700, clampedSinceNs: 5n, window: 9, tsval: 0 });
  t.true(entryNow()!.lastEgressNs > 0n);
});

test.serial("egress: `consumed` follows the acks of an unprotected connection", (t) => {
  enter({ flags: guardFlag.UNPROTECTED });
  run("guard_egress", reply({ ack: CONSUMED + 999 }));
  t.like(entryNow(), { consumed: CONSUMED + 999, sentAck: CONSUMED + 999 });
});

test.serial("ingress: what is not for a VIP, or not for a service, passes", (t) => {
  t.like(run("guard_ingress", segment({ to: { address: STRANGER, port } })), {
    retval: XDP.PASS,
    verdict: "in_not_vip",
  });
  t.like(run("guard_ingress", segment({ to: { address: VIP, port: 1 } })), { retval: XDP.PASS, verdict: "in_not_vip" });
  t.like(run("guard_ingress", segment({ protocol: 17 })), { retval: XDP.PASS, verdict: "in_not_vip" });
});

test.serial("ingress: a SYN for a listener passes, any other stranger does not", (t) => {
  t.like(run("guard_ingress", segment({ flags: TCP.SYN })), { retval: XDP.PASS, verdict: "in_here" });
  for (const flags of [TCP.ACK, TCP.SYN | TCP.ACK, TCP.RST, TCP.FIN | TCP.ACK, 0]) {
    t.like(
      run("guard_ingress", segment({ flags })),
      { retval: XDP.DROP, verdict: "in_not_here_dropped" },
      `flags ${flags}`,
    );
  }
});

test.serial("ingress: the table is nearly full, and nothing begins; what is here goes on", async (t) => {
  const socket = net.connect({ host: VIP, port, localAddress: CLIENT });
  await new Promise((resolve) => socket.once("connect", resolve));
  const from = { address: CLIENT, port: socket.localPort! };
  const spare = (n: number) => flowKey({ ...flowOf(), client: { address: STRANGER, port: 1 + n } });
  for (let n = 0; n < BIRTHS_MAX - 1; n++) guard.map("flows").update(spare(n), encodeGuarded(LIVE));
  t.is(guard.program("guard_used").testRun({}).retval, BIRTHS_MAX - 1);
  t.like(run("guard_ingress", segment({ flags: TCP.SYN })), { retval: XDP.PASS, verdict: "in_here" });
  guard.map("flows").update(spare(BIRTHS_MAX), encodeGuarded(LIVE));
  t.is(guard.program("guard_used").testRun({}).retval, BIRTHS_MAX);
  t.like(run("guard_ingress", segment({ flags: TCP.SYN })), { retval: XDP.DROP, verdict: "in_no_room" });
  t.like(run("guard_ingress", segment({ from })), { retval: XDP.PASS, verdict: "in_here" });
  guard.map("flows").delete(spare(BIRTHS_MAX));
  t.like(run("guard_ingress", segment({ flags: TCP.SYN })), { retval: XDP.PASS, verdict: "in_here" });
  socket.destroy();
});

test.serial("ingress: a stranger goes back to the appliance that sent it, or to the default one", (t) => {
  guard.map("way_back").update(FIRST, encodeMac("02:00:00:00:00:77", 1));
  let back = run("guard_ingress", segment());
  t.like(back, { retval: XDP.REDIRECT, verdict: "in_not_here" });
  t.like(readFrame(back.out), { sourceMac: OWN_MAC, destinationMac: "02:00:00:00:00:77", checksumHolds: true });
  guard.map("appliances").update(encodeMac(APPLIANCE_MAC, 0), ONE);
  back = run("guard_ingress", segment());
  t.like(back, { retval: XDP.REDIRECT, verdict: "in_not_here" });
  t.like(readFrame(back.out), { sourceMac: OWN_MAC, destinationMac: APPLIANCE_MAC });
});

test.serial(
  "ingress: an established socket without an entry is here; an entry that is over does not make it so",
  async (t) => {
    const socket = net.connect({ host: VIP, port, localAddress: CLIENT });
    await new Promise((resolve) => socket.once("connect", resolve));
    const from = { address: CLIENT, port: socket.localPort! };
    t.like(run("guard_ingress", segment({ from })), { retval: XDP.PASS, verdict: "in_here" });
    socket.destroy();
    for (const entry of [
      { phase: "SILENT" },
      { phase: "ENDED" },
      { incarnation: 6 },
      { incarnation: 6, phase: "PROBE" },
    ] as const) {
      enter(entry);
      t.like(
        run("guard_ingress", segment()),
        { retval: XDP.DROP, verdict: "in_not_here_dropped" },
        JSON.stringify(entry),
      );
      t.like(run("guard_ingress", segment({ flags: TCP.SYN })), { retval: XDP.PASS, verdict: "in_here" });
    }
  },
);

test.serial("ingress: what cannot be read is dropped", (t) => {
  const fragment = segment();
  fragment.writeUInt16BE(0x2000, 20);
  t.like(run("guard_ingress", fragment), { retval: XDP.DROP, verdict: "in_malformed" });
  t.like(run("guard_ingress", segment().subarray(0, 40)), { retval: XDP.DROP, verdict: "in_malformed" });
});

test.serial("change: only what is named changes, and consumed only grows", (t) => {
  const change = (what: Parameters<typeof encodeGuardChange>[1]) =>
    decodeGuardChange(
      guard.program("guard_change").testRun({ context: encodeGuardChange(flowKey(flowOf()), what) }).contextOut!,
    );
  t.is(change({ consumed: 1 }), undefined);
  enter({});
  t.deepEqual(change({}), LIVE);
  t.deepEqual(change({ consumed: CONSUMED + 10 }), { ...LIVE, consumed: CONSUMED + 10 });
  t.is(change({ consumed: CONSUMED + 9 })!.consumed, CONSUMED + 10);
  t.like(change({ finSeq: 4242 }), { finSeq: 4242, flags: guardFlag.FIN_COMMITTED });
  t.is(change({ setFlags: guardFlag.RST_ASKED, clearFlags: guardFlag.FIN_COMMITTED })!.flags, guardFlag.RST_ASKED);
  t.is(change({ phase: "SILENT" })!.phase, "SILENT");
  t.is(change({ phase: "LIVE" })!.phase, "SILENT", "nothing wakes a silenced socket directly");
  t.is(change({ phase: "PROBE" })!.phase, "PROBE");
  t.is(change({ phase: "LIVE", incarnation: 8 })!.phase, "LIVE");
  t.is(entryNow()!.incarnation, 8);
});

test.serial("change: progress under a clamp starts its clock anew; it ends when the ack has left", (t) => {
  const change = (consumed: number) =>
    decodeGuardChange(
      guard.program("guard_change").testRun({ context: encodeGuardChange(flowKey(flowOf()), { consumed }) })
        .contextOut!,
    )!;
  const clamped = { kernelAck: CONSUMED + 100, clampedSinceNs: 5n };
  enter(clamped);
  t.true(change(CONSUMED + 50).clampedSinceNs > 5n);
  run("guard_egress", reply({ ack: CONSUMED + 50 }), MARK);
  t.true(entryNow()!.clampedSinceNs > 5n, "a nudge that covers a part");
  t.true(change(CONSUMED + 100).clampedSinceNs > 5n, "nobody has told the client yet");
  run("guard_egress", reply({ ack: CONSUMED + 100 }), MARK);
  t.like(entryNow(), { clampedSinceNs: 0n, sentAck: CONSUMED + 100 });
});

test.serial("change: a rebuilt socket's beginning only moves forward, and late acks are those above it", (t) => {
  const change = (sendNext: number) =>
    decodeGuardChange(
      guard.program("guard_change").testRun({ context: encodeGuardChange(flowKey(flowOf()), { sendNext }) })
        .contextOut!,
    )!;
  enter({ sendNext: 2 ** 32 - 5, flags: guardFlag.WATCH_LATE });
  t.is(change(20).sendNext, 20);
  t.is(change(2 ** 32 - 1).sendNext, 20);
});

// ---- datagrams ----

/** A flow of datagrams: only phase and incarnation of its entry mean something. */
interface Datagram {
  what: string;
  entry?: Partial<GuardEntry>;
  lease?: { seconds: number; incarnation?: number };
  /** The service's end. */
  port?: number;
  mark?: number;
  /** Leaving, and coming from an appliance. */
  out: string;
  in: string;
}

const datagrams: Datagram[] = [
  { what: "living", entry: {}, out: "out_passed", in: "in_here" },
  { what: "no entry", out: "out_unknown", in: "in_not_here" },
  { what: "the agent's mark without an entry", mark: MARK, out: "out_unknown", in: "in_not_here" },
  { what: "fenced", entry: {}, lease: { seconds: 0 }, out: "out_fenced_lease", in: "in_here" },
  { what: "an earlier life's", entry: { incarnation: 6 }, out: "out_fenced_incarnation", in: "in_not_here" },
  { what: "frozen", entry: { phase: "FROZEN" }, out: "out_silent", in: "in_frozen" },
  { what: "unready", entry: { phase: "PROBE" }, out: "out_silent", in: "in_not_here" },
  { what: "unready, with the mark", entry: { phase: "PROBE" }, mark: MARK, out: "out_silent", in: "in_not_here" },
  { what: "over", entry: { phase: "ENDED" }, out: "out_silent", in: "in_not_here" },
  { what: "a port that is not guarded", port: MEDIA_PORT + 1, out: "out_not_vip", in: "in_not_vip" },
];

for (const v6 of [false, true]) {
  const media = (row: Pick<Datagram, "port">): Flow => {
    const { client, vip } = flowOf(v6);
    return { client, vip: { ...vip, port: row.port ?? MEDIA_PORT }, transport: "udp" };
  };
  for (const row of datagrams) {
    test.serial(`datagrams, IPv${v6 ? 6 : 4}: ${row.what}: ${row.out}, ${row.in}`, (t) => {
      const flow = media(row);
      if (row.entry) guard.map("flows").update(flowKey(flow), encodeGuarded({ ...LIVE, ...row.entry }));
      if (row.lease) lease(row.lease);
      const leaving = run("guard_egress", udpFrame({ from: flow.vip, to: flow.client, payload: HELLO }), row.mark);
      t.is(leaving.verdict, row.out);
      t.is(leaving.retval, /passed|not_vip/.test(row.out) ? TCX.NEXT : TCX.DROP);
      const frame = udpFrame({ from: flow.client, to: flow.vip, payload: HELLO });
      const back = /frozen|not_here/.test(row.in);
      const without = run("guard_ingress", frame);
      t.is(without.verdict, back ? "in_not_here_dropped" : row.in, "no way back");
      guard.map("appliances").update(encodeMac(APPLIANCE_MAC, 0), ONE);
      const coming = run("guard_ingress", frame);
      t.is(coming.verdict, row.in);
      t.is(coming.retval, back ? XDP.REDIRECT : XDP.PASS);
      if (back) t.is(coming.out.subarray(0, 6).toString("hex"), APPLIANCE_MAC.replaceAll(":", ""));
    });
  }

  test.serial(`datagrams, IPv${v6 ? 6 : 4}: a header cut short is dropped`, (t) => {
    const { client, vip } = media({});
    t.is(run("guard_egress", wrap({ from: vip, to: client }, 17, Buffer.alloc(7))).verdict, "out_malformed");
    t.is(run("guard_ingress", wrap({ from: client, to: vip }, 17, Buffer.alloc(7))).verdict, "in_malformed");
  });
}

/** Of a datagram from a VIP, or to it: more to come, or some way into it. */
const fragments = [
  { what: "first", field: 0x2000, v6: "00000001" },
  { what: "last", field: 100, v6: "00000320" },
];

for (const { what, field, v6 } of fragments) {
  test.serial(`datagrams: the ${what} fragment does not leave, nor come in: nobody could say whose it is`, (t) => {
    const ends = { from: { address: VIP, port: MEDIA_PORT }, to: { address: CLIENT, port: 5004 } };
    guard.map("flows").update(flowKey({ client: ends.to, vip: ends.from, transport: "udp" }), encodeGuarded(LIVE));
    const whole = (from: typeof ends.from, to: typeof ends.to) => udpFrame({ from, to, payload: HELLO });
    const leaving = whole(ends.from, ends.to);
    t.is(run("guard_egress", leaving).verdict, "out_passed");
    leaving.writeUInt16BE(field, 20);
    t.like(run("guard_egress", leaving), { retval: TCX.DROP, verdict: "out_fragment" });
    const coming = whole(ends.to, ends.from);
    coming.writeUInt16BE(field, 20);
    t.like(run("guard_ingress", coming), { retval: XDP.DROP, verdict: "in_malformed" });
    const header = Buffer.from(`1100${v6.slice(4)}00000001`, "hex");
    const six = wrap(
      { from: { address: VIP6, port: 0 }, to: { address: CLIENT6, port: 0 } },
      44,
      Buffer.concat([header, HELLO]),
    );
    t.like(run("guard_egress", six), { retval: TCX.DROP, verdict: "out_fragment" });
    const ping = wrap(ends, 1, Buffer.alloc(64));
    ping.writeUInt16BE(field, 20);
    t.is(run("guard_egress", ping).verdict, "out_not_vip", "a large answer to a ping");
    const stranger = udpFrame({ from: { address: STRANGER, port: MEDIA_PORT }, to: ends.to, payload: HELLO });
    stranger.writeUInt16BE(field, 20);
    t.is(run("guard_egress", stranger).verdict, "out_not_vip");
  });
}

test.serial("datagrams: what is sent to a group is guarded as of a client", (t) => {
  const group = { address: "239.1.2.3", port: 5004 };
  const packet = udpFrame({ from: { address: VIP, port: MEDIA_PORT }, to: group, payload: HELLO });
  t.is(run("guard_egress", packet).verdict, "out_unknown");
  const flow: Flow = { client: group, vip: { address: VIP, port: MEDIA_PORT }, transport: "udp" };
  guard.map("flows").update(flowKey(flow), encodeGuarded(LIVE));
  t.is(run("guard_egress", packet).verdict, "out_passed");
  t.true(decodeGuarded(guard.map("flows").lookup(flowKey(flow))!).lastEgressNs > 0n);
});
