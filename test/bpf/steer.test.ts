import test from "ava";
import { flowFromKey, flowKey, heldReason } from "../../bpf/layout.js";
import { flowHash, flowHashOfKey } from "../../bpf/maglev.js";
import { steerVerdicts } from "../../bpf/vocabulary.js";
import type { Flow } from "../../proto/flow.js";
import { isIPv6 } from "../../proto/flow.js";
import { type Frame, TCP, tcpFrame, timestamps, udpFrame, wrap } from "./guard/packet.js";
import {
  ACTION,
  OTHER_VIP,
  OWN_MAC,
  PACKETS_MAX,
  RELATED_PORT,
  serverMac,
  TestAppliance,
  VIP,
  VIP6,
} from "./steer/appliance.js";
import {
  fragmentBody,
  icmpError,
  macText,
  PADDING,
  randomAddress,
  tagged,
  withExtensions,
  withIpOptions,
} from "./steer/frames.js";

/** One packet in, one verdict and one packet out, by BPF_PROG_TEST_RUN. Nothing is attached. Every test has flows of its own. */

const CLIENT = "10.77.0.10";
const CLIENT6 = "fd77::10";
const CLIENT_MAC = "02:00:00:00:00:0a";
const HELLO = Buffer.from("hello");
const SEQ = 5000;

let appliance: TestAppliance;
let port = 20_000;

test.before(() => {
  appliance = new TestAppliance();
});
test.beforeEach(() => appliance.reset());
test.after.always(() => appliance?.close());

function newFlow(vip = VIP, client = isIPv6(vip) ? CLIENT6 : CLIENT): Flow {
  return { client: { address: client, port: port++ }, vip: { address: vip, port: 80 }, transport: "tcp" };
}

/** A flow that Maglev sends to this server. */
function flowOf(slot: number, vip = VIP): Flow {
  for (;;) {
    const flow = newFlow(vip);
    if (appliance.home(flow) === slot) return flow;
  }
}

/** A flow from the same client to a port of related flows. */
function dataFlow({ client, vip }: Flow, transport: Flow["transport"] = "tcp"): Flow {
  return { client: { ...client, port: port++ }, vip: { ...vip, port: RELATED_PORT }, transport };
}

function ends(flow: Flow) {
  return { from: flow.client, to: flow.vip, sourceMac: CLIENT_MAC, destinationMac: OWN_MAC };
}

/** A segment of the client. */
function segment(flow: Flow, frame: Partial<Frame> = {}): Buffer {
  return tcpFrame({ ...ends(flow), seq: SEQ, ack: 9000, ...frame });
}

function raw(flow: Flow, protocol: number, body: Buffer): Buffer {
  return wrap(ends(flow), protocol, body);
}

function verdictOf(data: Buffer): string {
  return appliance.run(data).verdict;
}

// ---- headers ----

for (const [family, vip] of [
  ["IPv4", VIP],
  ["IPv6", VIP6],
] as const) {
  test.serial(
    `${family}: a flow's first packet goes where Maglev says, the next by the cache, both unchanged but for the MACs`,
    (t) => {
      const flow = newFlow(vip);
      const packet = segment(flow, { payload: HELLO });
      for (const verdict of ["forward_maglev", "forward_recent"]) {
        const { out, ...rest } = appliance.run(packet);
        t.deepEqual(rest, { verdict, action: ACTION.REDIRECT, slot: appliance.home(flow) });
        t.is(macText(out.subarray(6, 12)), OWN_MAC);
        t.deepEqual(out.subarray(12), packet.subarray(12));
      }
    },
  );

  test.serial(`${family}: the flow's hash and Maglev's position are the same here and there`, (t) => {
    for (let i = 0; i < 2000; i++) {
      const flow = newFlow(vip, randomAddress(vip));
      flow.client.port = 1 + Math.floor(Math.random() * 65535);
      const { verdict, slot } = appliance.run(segment(flow));
      if (verdict !== "forward_maglev" || slot !== appliance.home(flow))
        t.fail(JSON.stringify({ flow, verdict, slot }));
    }
    t.pass();
  });

  test.serial(`${family}: what the client said last is remembered`, (t) => {
    const flow = newFlow(vip);
    appliance.run(segment(flow, { payload: HELLO, ack: 4_000_000_000, window: 77, options: timestamps(1234, 987) }));
    const first = { slot: appliance.home(flow), generation: 1, ack: 4_000_000_000, seq: SEQ + 5, window: 77 };
    t.like(appliance.tables.hintsOf(flow), { ...first, tsval: 1234, tsecr: 987, syn: undefined });
    appliance.run(segment(flow, { flags: TCP.ACK | TCP.FIN, seq: 2 ** 32 - 1, ack: 7, window: 0 }));
    t.like(appliance.tables.hintsOf(flow), { ack: 7, seq: 0, window: 0, tsval: 0, tsecr: 0 });
    // SACK permitted, NOP, window scale, MSS, timestamps: nobody puts them so
    const options = Buffer.from("0402010303070204" + "05b4080a0000000100000002" + "00000000", "hex");
    appliance.run(segment(flow, { options }));
    t.like(appliance.tables.hintsOf(flow), { tsval: 1, tsecr: 2 });
    t.is(appliance.tables.hintsOf(newFlow(vip)), undefined);
  });
}

interface Case {
  what: string;
  packet(): Buffer;
  verdict: string;
  action: number;
}

const plain = () => segment(newFlow());
const plain6 = () => segment(newFlow(VIP6));
const patched = (packet: Buffer, at: number, ...bytes: number[]) => {
  Buffer.from(bytes).copy(packet, at);
  return packet;
};
const hop = (n: number) => [...Array(n)].map(() => ({ type: 60, body: PADDING }));

const cases: Case[] = [
  {
    what: "ARP",
    packet: () => Buffer.concat([plain().subarray(0, 12), Buffer.from("0806", "hex"), Buffer.alloc(46)]),
    verdict: "pass_not_vip",
    action: ACTION.PASS,
  },
  {
    what: "another IPv4 address",
    packet: () => segment(newFlow("10.77.0.1")),
    verdict: "pass_not_vip",
    action: ACTION.PASS,
  },
  {
    what: "another IPv6 address",
    packet: () => segment(newFlow("fd77::1")),
    verdict: "pass_not_vip",
    action: ACTION.PASS,
  },
  {
    what: "another IPv6 address behind too many headers",
    packet: () => withExtensions(segment(newFlow("fd77::1")), hop(7)),
    verdict: "pass_not_vip",
    action: ACTION.PASS,
  },
  { what: "one VLAN tag", packet: () => tagged(plain(), 0x8100), verdict: "forward_maglev", action: ACTION.REDIRECT },
  {
    what: "two VLAN tags",
    packet: () => tagged(plain6(), 0x88a8, 0x8100),
    verdict: "forward_maglev",
    action: ACTION.REDIRECT,
  },
  {
    what: "three VLAN tags",
    packet: () => tagged(plain(), 0x88a8, 0x8100, 0x8100),
    verdict: "pass_vlan",
    action: ACTION.PASS,
  },
  { what: "IPv4 options", packet: () => withIpOptions(plain(), 8), verdict: "forward_maglev", action: ACTION.REDIRECT },
  {
    what: "IPv4 with all options there can be",
    packet: () => withIpOptions(plain(), 40),
    verdict: "forward_maglev",
    action: ACTION.REDIRECT,
  },
  {
    what: "IPv6 hop-by-hop and destination options",
    packet: () =>
      withExtensions(plain6(), [
        { type: 0, body: PADDING },
        { type: 60, body: PADDING },
      ]),
    verdict: "forward_maglev",
    action: ACTION.REDIRECT,
  },
  {
    what: "IPv6 atomic fragment",
    packet: () => withExtensions(plain6(), [{ type: 44, body: fragmentBody(0, false) }]),
    verdict: "forward_maglev",
    action: ACTION.REDIRECT,
  },
  {
    what: "six IPv6 extension headers",
    packet: () => withExtensions(plain6(), hop(6)),
    verdict: "forward_maglev",
    action: ACTION.REDIRECT,
  },
  {
    what: "seven IPv6 extension headers",
    packet: () => withExtensions(plain6(), hop(7)),
    verdict: "drop_malformed",
    action: ACTION.DROP,
  },
  {
    what: "IPv6 extension header longer than the packet",
    packet: () => withExtensions(plain6(), [{ type: 60, body: Buffer.from([200, 1, 4, 0, 0, 0, 0]) }]),
    verdict: "drop_malformed",
    action: ACTION.DROP,
  },
  {
    what: "first IPv4 fragment",
    packet: () => patched(plain(), 20, 0x20, 0),
    verdict: "drop_fragment",
    action: ACTION.DROP,
  },
  {
    what: "later IPv4 fragment",
    packet: () => patched(plain(), 20, 0, 9),
    verdict: "drop_fragment",
    action: ACTION.DROP,
  },
  {
    what: "IPv4 fragment of UDP",
    packet: () => patched(raw(newFlow(), 17, Buffer.alloc(32)), 20, 0x20, 0),
    verdict: "pass_vip_other",
    action: ACTION.PASS,
  },
  {
    what: "first IPv6 fragment",
    packet: () => withExtensions(plain6(), [{ type: 44, body: fragmentBody(0, true) }]),
    verdict: "drop_fragment",
    action: ACTION.DROP,
  },
  {
    what: "later IPv6 fragment",
    packet: () => withExtensions(plain6(), [{ type: 44, body: fragmentBody(9, false) }]),
    verdict: "drop_fragment",
    action: ACTION.DROP,
  },
  {
    what: "Ethernet header cut short behind its tag",
    packet: () => tagged(plain(), 0x8100).subarray(0, 16),
    verdict: "drop_malformed",
    action: ACTION.DROP,
  },
  {
    what: "IPv4 header cut short",
    packet: () => plain().subarray(0, 30),
    verdict: "drop_malformed",
    action: ACTION.DROP,
  },
  {
    what: "IPv4 header length of 4 words",
    packet: () => patched(plain(), 14, 0x44),
    verdict: "drop_malformed",
    action: ACTION.DROP,
  },
  {
    what: "IPv4 total length below the header",
    packet: () => patched(plain(), 16, 0, 19),
    verdict: "drop_malformed",
    action: ACTION.DROP,
  },
  {
    what: "IPv6 header of version 4",
    packet: () => patched(plain6(), 14, 0x40),
    verdict: "drop_malformed",
    action: ACTION.DROP,
  },
  {
    what: "TCP header cut short",
    packet: () => plain().subarray(0, 50),
    verdict: "drop_malformed",
    action: ACTION.DROP,
  },
  {
    what: "TCP header length of 4 words",
    packet: () => patched(plain(), 46, 0x40),
    verdict: "drop_malformed",
    action: ACTION.DROP,
  },
  {
    what: "TCP header longer than the packet",
    packet: () => patched(plain(), 46, 0xf0),
    verdict: "drop_malformed",
    action: ACTION.DROP,
  },
  {
    what: "TCP options that lie about their length",
    packet: () => segment(newFlow(), { options: Buffer.from("0101081e", "hex") }),
    verdict: "forward_maglev",
    action: ACTION.REDIRECT,
  },
  { what: "UDP", packet: () => raw(newFlow(), 17, Buffer.alloc(12)), verdict: "pass_vip_other", action: ACTION.PASS },
  {
    what: "UDP on a TCP service's port",
    packet: () => udpFrame({ ...ends(newFlow()), payload: HELLO }),
    verdict: "pass_vip_other",
    action: ACTION.PASS,
  },
  {
    what: "UDP header cut short",
    packet: () => raw(newFlow(), 17, Buffer.alloc(7)),
    verdict: "drop_malformed",
    action: ACTION.DROP,
  },
  {
    what: "UDP to a port of related flows, of nobody",
    packet: () => udpFrame(ends(dataFlow(newFlow(), "udp"))),
    verdict: "drop_not_related",
    action: ACTION.DROP,
  },
  {
    what: "SYN to a port of related flows, of nobody",
    packet: () => segment(dataFlow(newFlow()), { flags: TCP.SYN }),
    verdict: "drop_not_related",
    action: ACTION.DROP,
  },
  {
    what: "a fragment of UDP to a port of related flows",
    packet: () => patched(udpFrame(ends(dataFlow(newFlow(), "udp"))), 20, 0x20, 0),
    verdict: "pass_vip_other",
    action: ACTION.PASS,
  },
  {
    what: "ping",
    packet: () => raw(newFlow(), 1, Buffer.from([8, 0, 0, 0, 0, 0, 0, 0])),
    verdict: "pass_vip_other",
    action: ACTION.PASS,
  },
  {
    what: "neighbour solicitation",
    packet: () => raw(newFlow(VIP6), 58, Buffer.from([135, 0, 0, 0, 0, 0, 0, 0])),
    verdict: "pass_vip_other",
    action: ACTION.PASS,
  },
  {
    what: "a port without service",
    packet: () => {
      const flow = newFlow();
      flow.vip.port = 81;
      return segment(flow);
    },
    verdict: "drop_no_service",
    action: ACTION.DROP,
  },
];

for (const { what, packet, verdict, action } of cases) {
  test.serial(`headers: ${what} → ${verdict}`, (t) => {
    const outcome = appliance.run(packet());
    t.is(outcome.verdict, verdict);
    t.is(outcome.action, action);
    if (action === ACTION.REDIRECT) t.not(outcome.slot, undefined);
  });
}

test.serial("headers: tags stay as they are", (t) => {
  const packet = tagged(plain(), 0x8100);
  t.deepEqual(appliance.run(packet).out.subarray(12), packet.subarray(12));
});

// ---- owner ----

test.serial("owner: an exception goes before cache and Maglev, until it is removed", (t) => {
  const flow = flowOf(1);
  t.like(appliance.run(segment(flow)), { verdict: "forward_maglev", slot: 1 });
  appliance.tables.putExceptions([{ flow, slot: 2, generation: 1 }]);
  t.like(appliance.run(segment(flow)), { verdict: "forward_exception", slot: 2 });
  t.like(appliance.run(segment(flow, { flags: TCP.SYN })), { verdict: "forward_exception", slot: 2 });
  t.is(appliance.tables.hintsOf(flow)?.slot, 2);
  appliance.tables.removeExceptions([flow]);
  t.like(appliance.run(segment(flow)), { verdict: "forward_recent", slot: 2 });
});

test.serial("owner: an exception that names a DOWN server or an old generation does not count", (t) => {
  const [down, old] = [flowOf(1), flowOf(1)];
  appliance.tables.putExceptions([
    { flow: down, slot: 3, generation: 1 },
    { flow: old, slot: 2, generation: 0 },
  ]);
  appliance.set(3, "down");
  t.like(appliance.run(segment(down)), { verdict: "forward_maglev", slot: 1 });
  t.like(appliance.run(segment(old)), { verdict: "forward_maglev", slot: 1 });
});

test.serial("owner: the control plane's view of exceptions survives it", (t) => {
  const flows = [newFlow(), newFlow(VIP6)];
  appliance.tables.putExceptions(flows.map((flow) => ({ flow, slot: 2, generation: 1 })));
  t.deepEqual(
    appliance.tables
      .exceptions()
      .map(({ flow }) => flow)
      .sort((a, b) => a.client.port - b.client.port),
    flows,
  );
  t.deepEqual(flows.map(flowKey).map(flowFromKey), flows);
});

test.serial(
  "owner: the cache does not count for a DOWN server or an old generation, but does for a draining one",
  (t) => {
    const flow = flowOf(1);
    appliance.run(segment(flow));
    appliance.set(1, "draining");
    t.like(appliance.run(segment(flow)), { verdict: "forward_recent", slot: 1 });
    appliance.set(1, "up", 2);
    t.like(appliance.run(segment(flow)), { verdict: "forward_maglev", slot: 1 });
    t.is(appliance.tables.hintsOf(flow)?.generation, 2);
    appliance.set(1, "down");
    t.like(appliance.run(segment(flow)), { verdict: "drop_no_server" });
    appliance.suspect(1);
    appliance.set(1, "down");
    t.like(appliance.run(segment(flow)), { verdict: "forward_maglev", slot: appliance.heir(flow, 1) });
  },
);

test.serial("owner: a new connection never goes to a server that is held, draining or down", (t) => {
  for (const state of ["held", "takeover", "draining", "down"] as const) {
    const flow = flowOf(2);
    appliance.suspect(2);
    appliance.set(2, state);
    const heir = appliance.heir(flow, 2);
    t.like(appliance.run(segment(flow, { flags: TCP.SYN })), { verdict: "forward_maglev", slot: heir }, state);
    t.like(appliance.run(segment(flow, { seq: SEQ + 1 })), { verdict: "forward_recent", slot: heir }, state);
    t.like(
      appliance.run(segment(flow, { seq: SEQ + 1, payload: HELLO })),
      { verdict: "forward_recent", slot: heir },
      state,
    );
    t.is(appliance.tables.hintsOf(flow)?.syn?.isn, SEQ);
  }
  for (const slot of [1, 2, 3]) appliance.set(slot, "draining");
  t.is(verdictOf(segment(newFlow(), { flags: TCP.SYN })), "drop_no_server");
});

// ---- SYN ----

const OFFER = Buffer.from("020405b40402080a000000010000000001030307", "hex");

test.serial("SYN: what it offers is remembered, and is the connection's with the ACK of its handshake", (t) => {
  const flow = newFlow();
  const syn = { isn: SEQ, mss: 1460, windowScale: 7, sack: true, timestamps: true };
  t.is(verdictOf(segment(flow, { flags: TCP.SYN, options: OFFER })), "forward_maglev");
  t.deepEqual(appliance.tables.hintsOf(flow)?.syn, syn);
  t.is(verdictOf(segment(flow, { flags: TCP.SYN, options: OFFER })), "forward_recent");
  t.is(verdictOf(segment(flow, { seq: SEQ + 1 })), "forward_recent");
  t.deepEqual(appliance.tables.hintsOf(flow)?.syn, syn);
  const bare = newFlow(VIP6);
  appliance.run(segment(bare, { flags: TCP.SYN }));
  t.like(appliance.tables.hintsOf(bare)?.syn, { mss: 0, windowScale: undefined, sack: false, timestamps: false });
});

test.serial(
  "SYN: a forged one changes nothing about a living connection; the next connection's becomes its own",
  (t) => {
    const flow = newFlow();
    appliance.run(segment(flow, { flags: TCP.SYN, options: OFFER }));
    appliance.run(segment(flow, { seq: SEQ + 1, ack: 9001 }));
    const before = appliance.tables.hintsOf(flow);
    t.like(appliance.run(segment(flow, { flags: TCP.SYN, seq: 77 })), {
      verdict: "forward_recent",
      slot: appliance.home(flow),
    });
    t.deepEqual(appliance.tables.hintsOf(flow), before);
    appliance.run(segment(flow, { seq: SEQ + 1, ack: 9001 }));
    t.is(appliance.tables.hintsOf(flow)?.syn?.isn, SEQ);
    appliance.run(segment(flow, { seq: 78 }));
    t.is(appliance.tables.hintsOf(flow)?.syn?.isn, 77);
  },
);

test.serial("SYN: a forged one for a held flow that the cache has forgotten does not move it", async (t) => {
  const flow = flowOf(2);
  appliance.suspect(2);
  const forged = appliance.run(segment(flow, { flags: TCP.SYN, seq: 12345 }));
  t.like(forged, { verdict: "forward_maglev", slot: appliance.heir(flow, 2) });
  t.is(verdictOf(segment(flow, { payload: HELLO })), "held");
  t.is(verdictOf(segment(flow, { flags: TCP.SYN, seq: 23456 })), "forward_recent"); // again the forger's own handshake
  t.is(verdictOf(segment(flow, { seq: SEQ + 5, payload: HELLO })), "held");
  await appliance.held(2);
});

test.serial("SYN: one for a held connection is held with it", async (t) => {
  const flow = flowOf(2);
  appliance.run(segment(flow));
  appliance.suspect(2);
  t.is(verdictOf(segment(flow, { flags: TCP.SYN, seq: 1 })), "held");
  t.is(appliance.tables.hintsOf(flow)?.syn, undefined);
  await appliance.held(1);
});

test.serial("SYN: a flood takes its own lines again and again, and no living flow's", (t) => {
  const flow = newFlow();
  appliance.run(segment(flow, { payload: HELLO }));
  const set = flowHash(flow) & 0x3ffff;
  const key = flowKey(flow);
  const crowd: Flow[] = []; // flows of the same four lines
  for (let i = 0; crowd.length < 8; i++) {
    key.writeUInt32BE(0x0b000000 + (i >> 8), 12);
    key.writeUInt16BE(1024 + (i & 255), 32);
    if ((flowHashOfKey(key) & 0x3ffff) === set) crowd.push(flowFromKey(key));
  }
  for (const forged of [...crowd, ...crowd]) t.regex(verdictOf(segment(forged, { flags: TCP.SYN })), /^forward_/);
  t.is(verdictOf(segment(flow, { payload: HELLO })), "forward_recent");
});

// ---- hold ----

test.serial(
  "hold: packets of a held server's flows go whole into the ring buffer, in order, until they are released",
  async (t) => {
    const flow = flowOf(1, VIP6);
    appliance.run(segment(flow));
    appliance.suspect(1);
    const packets = [
      segment(flow, { payload: HELLO }),
      segment(flow, { seq: SEQ + 5, ack: 9111, payload: Buffer.alloc(1400, 7) }),
    ];
    for (const packet of packets) t.like(appliance.run(packet), { verdict: "held", action: ACTION.DROP });
    t.is(appliance.tables.hintsOf(flow)?.ack, 9111);
    const records = await appliance.held(2);
    t.deepEqual(
      records.map(({ flow, ticket, reason, slot, frame }) => ({ flow, ticket, reason, slot, frame })),
      packets.map((frame, ticket) => ({ flow, ticket, reason: heldReason.FLOW, slot: 1, frame })),
    );
    t.like(appliance.hold(flow), {
      held: 2,
      slot: 1,
      state: "holding",
      bytes: BigInt(packets[0]!.length + packets[1]!.length),
    });
    t.true(appliance.hold(flow)!.deadlineNs > appliance.now() + 9_000_000_000n);

    t.is(appliance.release(flow, 1, 3), 0, "one was not sent yet");
    t.is(verdictOf(segment(flow)), "held");
    t.is(appliance.release(flow, 3, 3), 1);
    t.like(appliance.run(segment(flow)), { verdict: "forward_released", slot: 3 });
    t.is(appliance.release(newFlow(), 0, 3), 2, "no such hold");
    appliance.tables.putExceptions([{ flow, slot: 3, generation: 1 }]);
    appliance.forget(flow);
    t.like(appliance.run(segment(flow)), { verdict: "forward_exception", slot: 3 });
    await appliance.held(1);
  },
);

test.serial("hold: a flow the cache does not know is held where Maglev says held", async (t) => {
  const flow = flowOf(3);
  appliance.suspect(3);
  t.is(verdictOf(segment(flow)), "held");
  t.is(appliance.tables.hintsOf(flow), undefined);
  t.is((await appliance.held(1))[0]?.slot, 3);
});

test.serial(
  "hold: while its server is taken over a pure ACK or an RST goes to the heir, everything else is held",
  async (t) => {
    const flow = flowOf(1);
    const heir = appliance.heir(flow, 1);
    appliance.run(segment(flow));
    appliance.suspect(1, "takeover");
    t.is(verdictOf(segment(flow, { payload: HELLO })), "held");
    t.like(appliance.run(segment(flow, { ack: 9500 })), { verdict: "forward_heir_ack", slot: heir });
    t.is(appliance.tables.hintsOf(flow)?.ack, 9500);
    t.is(appliance.tables.hintsOf(flow)?.slot, 1, "the flow has not moved");
    t.like(appliance.run(segment(flow, { flags: TCP.RST })), { verdict: "forward_heir_ack", slot: heir });
    t.like(appliance.run(segment(flow, { flags: TCP.RST | TCP.ACK })), { verdict: "forward_heir_ack", slot: heir });
    for (const frame of [{ flags: TCP.FIN | TCP.ACK }, { flags: TCP.SYN }, { payload: HELLO }]) {
      t.is(verdictOf(segment(flow, frame)), "held");
    }
    await appliance.held(4);
  },
);

test.serial("hold: an expired one goes to its committed owner, to the heir of a takeover, or nowhere", (t) => {
  const flow = flowOf(1);
  appliance.run(segment(flow));
  appliance.suspect(1);
  appliance.overdue(flow, 1);
  t.like(appliance.run(segment(flow, { payload: HELLO })), { verdict: "drop_hold_expired", action: ACTION.DROP });
  appliance.overdue(flow, 2);
  t.like(appliance.run(segment(flow, { payload: HELLO })), { verdict: "forward_hold_expired", slot: 2 });
  t.is(appliance.tables.hintsOf(flow)?.slot, 1);
  appliance.set(2, "draining");
  t.like(appliance.run(segment(flow, { payload: HELLO })), { verdict: "forward_hold_expired", slot: 2 });
  appliance.set(2, "up");
  appliance.set(1, "takeover");
  appliance.overdue(flow, 1);
  t.like(appliance.run(segment(flow, { payload: HELLO })), {
    verdict: "forward_hold_expired",
    slot: appliance.heir(flow, 1),
  });
});

test.serial("hold: a flow's packets are bounded", async (t) => {
  const flow = flowOf(1);
  appliance.suspect(1);
  for (let i = 0; i < PACKETS_MAX; i++) t.is(verdictOf(segment(flow)), "held");
  t.like(appliance.run(segment(flow)), { verdict: "drop_hold_full", action: ACTION.DROP });
  t.is(appliance.hold(flow)?.held, PACKETS_MAX, "no ticket was taken for it");
  await appliance.held(PACKETS_MAX);
});

test.serial("hold: a frame that is too large is dropped and counted", (t) => {
  const flow = flowOf(1);
  appliance.suspect(1);
  t.is(verdictOf(segment(flow, { payload: Buffer.alloc(9300) })), "drop_too_large");
});

test.serial("hold: a migration holds one flow of a living server, and ends with the exception", async (t) => {
  const [flow, other] = [flowOf(1), flowOf(1)];
  for (const each of [flow, other]) appliance.run(segment(each));
  appliance.tables.beginHold(flow, { slot: 1, generation: 1 }, appliance.now() + 10_000_000_000n);
  t.throws(() => appliance.tables.beginHold(flow, { slot: 1, generation: 1 }, 0n), { code: "PROTOCOL_VIOLATED" });
  t.is(verdictOf(segment(flow)), "held");
  t.is(verdictOf(segment(other)), "forward_recent");
  t.is(appliance.release(flow, 1, 2), 1);
  t.like(appliance.run(segment(flow)), { verdict: "forward_released", slot: 2 });
  appliance.tables.putExceptions([{ flow, slot: 2, generation: 1 }]);
  t.like(appliance.run(segment(flow)), { verdict: "forward_exception", slot: 2 });
  appliance.forget(flow);
  t.like(appliance.run(segment(flow)), { verdict: "forward_exception", slot: 2 });
  await appliance.held(1);
});

test.serial("hold: a migration that nobody ends goes on at its committed owner", (t) => {
  const flow = flowOf(1);
  appliance.tables.beginHold(flow, { slot: 1, generation: 1 }, appliance.now() - 1n);
  t.like(appliance.run(segment(flow)), { verdict: "forward_hold_expired", slot: 1 });
  appliance.forget(flow);
  t.like(appliance.run(segment(flow)), { verdict: "forward_exception", slot: 1 });
});

// ---- ICMP ----

for (const [family, vip, protocol, type, code] of [
  ["IPv4", VIP, 1, 3, 4],
  ["IPv6", VIP6, 58, 2, 0],
] as const) {
  const reply = (flow: Flow) => tcpFrame({ from: flow.vip, to: flow.client });
  const router = (flow: Flow, body: Buffer) =>
    raw({ ...flow, client: { address: isIPv6(vip) ? "fd77::99" : "10.9.9.9", port: 0 } }, protocol, body);

  test.serial(`ICMP over ${family}: a packet that was too big is told to the owner of its flow`, async (t) => {
    const flow = flowOf(2, vip);
    const error = router(flow, icmpError({ type, code, quoted: reply(flow) }));
    t.like(appliance.run(error), { verdict: "forward_icmp", slot: 2 });
    t.is(appliance.tables.hintsOf(flow), undefined, "nothing is learnt from it");
    appliance.tables.putExceptions([{ flow, slot: 3, generation: 1 }]);
    t.like(appliance.run(error), { verdict: "forward_icmp", slot: 3 });
    appliance.tables.removeExceptions([flow]);
    appliance.suspect(2);
    t.is(verdictOf(error), "held");
    t.deepEqual((await appliance.held(1))[0]?.frame, error);
  });

  test.serial(`ICMP over ${family}: what it quotes has to be of this VIP, of TCP and whole`, (t) => {
    const flow = newFlow(vip);
    const error = (quoted: Buffer, bytes = 8) => verdictOf(router(flow, icmpError({ type, code, quoted, bytes })));
    const other = isIPv6(vip) ? "fd77::1" : OTHER_VIP;
    t.is(error(tcpFrame({ from: { address: other, port: 80 }, to: flow.client })), "drop_malformed");
    t.is(error(reply(flow), 3), "drop_malformed");
    t.is(error(wrap({ from: flow.vip, to: flow.client }, 17, Buffer.alloc(8))), "pass_vip_other");
    t.is(verdictOf(router(flow, icmpError({ type: 1, code: 1, quoted: reply(flow) }))), "pass_vip_other");
  });
}

// ---- related flows ----

/** Says that the flow goes where this control connection does. @param any whatever its client's port */
function relate(flow: Flow, control: Flow, any = false): void {
  const key = any ? { ...flow, client: { ...flow.client, port: 0 } } : flow;
  appliance.tables.relate(key, { clientPort: control.client.port, vipPort: control.vip.port, clientIsn: SEQ });
}

for (const [family, vip] of [
  ["IPv4", VIP],
  ["IPv6", VIP6],
] as const) {
  for (const any of [false, true]) {
    const which = any ? "from any port of the client" : "from the port that was named";
    test.serial(`related over ${family}, ${which}: it goes where its control connection goes`, (t) => {
      const control = flowOf(2, vip);
      const [data, media] = [dataFlow(control), dataFlow(control, "udp")];
      for (const flow of [data, media]) relate(flow, control, any);
      const packets = [
        ["SYN", segment(data, { flags: TCP.SYN, options: OFFER })],
        ["data", segment(data, { payload: HELLO })],
        ["FIN", segment(data, { flags: TCP.FIN | TCP.ACK })],
        ["UDP", udpFrame({ ...ends(media), payload: HELLO })],
      ] as const;
      const all = (verdict: string, slot: number) => {
        for (const [what, packet] of packets) {
          const { out, ...rest } = appliance.run(packet);
          t.deepEqual(rest, { verdict, action: ACTION.REDIRECT, slot }, what);
          t.deepEqual(out.subarray(12), packet.subarray(12));
        }
      };
      all("forward_maglev", 2);
      t.is(appliance.tables.hintsOf(data), undefined);
      t.is(appliance.tables.hintsOf(control), undefined, "nothing is learnt from it");
      appliance.run(segment(control, { ack: 9111 }));
      const before = appliance.tables.hintsOf(control);
      all("forward_maglev", 2); // never by what its packets have taught
      t.deepEqual(appliance.tables.hintsOf(control), before);
      appliance.tables.putExceptions([{ flow: control, slot: 3, generation: 1 }]);
      all("forward_exception", 3);
      appliance.tables.unrelate(any ? { ...data, client: { ...data.client, port: 0 } } : data);
      t.is(verdictOf(segment(data)), "drop_not_related");
    });
  }

  const [protocol, type, code] = isIPv6(vip) ? [58, 2, 0] : [1, 3, 4];
  test.serial(`related over ${family}: an ICMP error about one goes to the owner of the bundle`, (t) => {
    const control = flowOf(1, vip);
    const error = (quoted: Buffer) =>
      verdictOf(raw(control, protocol!, icmpError({ type: type!, code: code!, quoted })));
    for (const flow of [dataFlow(control), dataFlow(control, "udp")]) {
      const answer = { from: flow.vip, to: flow.client };
      const quoted = flow.transport === "udp" ? udpFrame(answer) : tcpFrame(answer);
      t.is(error(quoted), "drop_not_related");
      relate(flow, control);
      t.is(error(quoted), "forward_icmp");
    }
  });
}

test.serial("related: the port that was named goes before any port, and another client's flow is nobody's", (t) => {
  const [control, other] = [flowOf(1), flowOf(2)];
  const data = dataFlow(control);
  relate(data, control, true);
  relate(data, other);
  t.like(appliance.run(segment(data)), { verdict: "forward_maglev", slot: 2 });
  t.like(appliance.run(segment(dataFlow(control))), { verdict: "forward_maglev", slot: 1 });
  t.is(verdictOf(segment({ ...data, client: { address: "10.77.0.11", port: data.client.port } })), "drop_not_related");
  t.is(verdictOf(segment({ ...data, vip: { ...data.vip, address: OTHER_VIP } })), "drop_not_related");
});

test.serial("related: a bundle's packets are held together, in one order, and released together", async (t) => {
  const control = flowOf(1);
  const [data, media] = [dataFlow(control), dataFlow(control, "udp")];
  for (const flow of [data, media]) relate(flow, control);
  appliance.run(segment(control));
  const line = appliance.tables.hintsOf(control);
  appliance.tables.beginHold(control, { slot: 1, generation: 1 }, appliance.now() + 10_000_000_000n);
  const packets = [
    segment(data, { payload: HELLO }),
    udpFrame({ ...ends(media), payload: HELLO }),
    segment(data, { flags: TCP.SYN }),
  ];
  for (const packet of packets) t.like(appliance.run(packet), { verdict: "held", action: ACTION.DROP });
  t.deepEqual(appliance.tables.hintsOf(control), line);
  packets.push(segment(control, { payload: HELLO }));
  t.is(verdictOf(packets[3]!), "held");
  t.deepEqual(
    (await appliance.held(4)).map(({ flow, ticket, frame }) => ({ flow, ticket, frame })),
    packets.map((frame, ticket) => ({ flow: control, ticket, frame })),
  );
  t.is(appliance.hold(data), undefined);
  t.is(appliance.release(control, 4, 2), 1);
  for (const packet of packets) t.like(appliance.run(packet), { verdict: "forward_released", slot: 2 });
});

test.serial(
  "related: while their server is taken over a pure ACK goes to the bundle's heir, datagrams are held",
  async (t) => {
    const control = flowOf(1);
    const [data, media] = [dataFlow(control), dataFlow(control, "udp")];
    for (const flow of [data, media]) relate(flow, control);
    appliance.suspect(1, "takeover");
    const slot = appliance.heir(control, 1);
    for (const flags of [TCP.ACK, TCP.RST]) {
      t.like(appliance.run(segment(data, { flags })), { verdict: "forward_heir_ack", slot });
    }
    t.is(verdictOf(segment(data, { payload: HELLO })), "held");
    t.is(verdictOf(segment(data, { flags: TCP.SYN })), "held", "the bundle is not new, whatever this is");
    t.is(verdictOf(udpFrame(ends(media))), "held");
    const records = await appliance.held(3);
    t.true(records.every(({ flow }) => flowKey(flow).equals(flowKey(control))));
  },
);

test.serial("related: sent back by the bundle's owner → to user space, as of its control connection", async (t) => {
  const control = flowOf(1);
  const data = dataFlow(control);
  relate(data, control);
  const back = segment(data, { sourceMac: macText(serverMac(1)) });
  t.is(verdictOf(back), "held_bounced");
  t.like((await appliance.held(1))[0], { flow: control, slot: 1, reason: heldReason.BOUNCED, frame: back });
});

// ---- sent back ----

test.serial("sent back: by the flow's owner → to user space, never to that server again", async (t) => {
  const flow = flowOf(1);
  appliance.run(segment(flow));
  const back = segment(flow, { sourceMac: macText(serverMac(1)) });
  t.like(appliance.run(back), { verdict: "held_bounced", action: ACTION.DROP });
  const unknown = flowOf(2);
  t.is(verdictOf(segment(unknown, { sourceMac: macText(serverMac(2)) })), "held_bounced");
  const records = await appliance.held(2);
  t.deepEqual(records[0], { flow, ticket: 0, reason: heldReason.BOUNCED, slot: 1, frame: back });
  t.like(records[1], { flow: unknown, slot: 2, reason: heldReason.BOUNCED });
  t.is(appliance.tables.hintsOf(unknown), undefined);
});

test.serial("sent back: another owner by exception or released hold gets it", async (t) => {
  const flow = flowOf(1);
  const back = (slot: number) => segment(flow, { sourceMac: macText(serverMac(slot)) });
  appliance.tables.putExceptions([{ flow, slot: 2, generation: 1 }]);
  t.like(appliance.run(back(1)), { verdict: "forward_bounced", slot: 2 });
  t.is(verdictOf(back(2)), "held_bounced");
  appliance.tables.removeExceptions([flow]);
  appliance.suspect(1);
  t.is(verdictOf(segment(flow)), "held");
  t.is(appliance.release(flow, 1, 3), 1);
  t.like(appliance.run(back(2)), { verdict: "forward_bounced", slot: 3 });
  t.is((await appliance.held(2)).length, 2);
});

test.serial("sent back: an heir that is not ready yet gets no answer to its probe twice", async (t) => {
  const flow = flowOf(1);
  appliance.run(segment(flow));
  appliance.suspect(1, "takeover");
  const heir = appliance.heir(flow, 1);
  t.is(verdictOf(segment(flow, { sourceMac: macText(serverMac(heir)) })), "held_bounced");
  t.is((await appliance.held(1))[0]?.slot, heir);
});

test.serial("every verdict was met", (t) => {
  t.deepEqual(
    steerVerdicts.filter((name) => !appliance.seen.has(name)),
    [],
  );
});
