import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { Guard, type GuardEntry, type GuardEvent, guardFlag, guardOption } from "../../agent/guard/index.js";
import { binding } from "../../bpf/binding/index.js";
import { BATON_MARK } from "../../bpf/guard_layout.js";
import { BatonError } from "../../proto/errors.js";
import type { Flow } from "../../proto/flow.js";
import { add } from "../../proto/sequence.js";
import {
  CGROUP,
  CLIENT,
  CLIENT_MAC,
  CLIENT_NAMESPACE,
  CLIENT6,
  inNamespace,
  loadGuard,
  makeNetwork,
  PINS,
  removeNetwork,
  SERVER_MAC,
  SERVER_NAMESPACE,
  VIP,
  VIP6,
} from "./guard/network.js";
import { TCP, tcpFrame, timestamps } from "./guard/packet.js";
import { killPeers, Peer, type SeenFrame } from "./guard/peer.js";

/** Real sockets over a veth with the guard at the server's end. */

const INCARNATION = 3;
let guard: Guard;
let events: GuardEvent[] = [];
let eventSource: { close(): void };
let client: Peer;
let server: Peer;
let port = 41000;

async function newServer(): Promise<Peer> {
  const peer = new Peer(SERVER_NAMESPACE);
  await peer.do("join", CGROUP);
  await peer.do("listen", "::", 80); // both families on one listener, as IPv6 sockets
  return peer;
}

test.before(async () => {
  makeNetwork();
  guard = loadGuard();
  eventSource = guard.events((event) => events.push(event));
});

test.after.always(async () => {
  await killPeers();
  eventSource?.close();
  guard?.close();
  removeNetwork();
});

test.beforeEach(async (t) => {
  t.timeout(30_000);
  for (const { flow } of guard.entries()) guard.remove(flow);
  holdLease(60);
  guard.setAppliances([]);
  events = [];
  client = new Peer(CLIENT_NAMESPACE);
  await client.do("sniff", "eth0");
  server = await newServer();
});

test.afterEach.always(killPeers);

function holdLease(seconds: number, incarnation = INCARNATION): bigint {
  const untilNs = binding.monotonicNs() + BigInt(Math.round(seconds * 1e9));
  guard.writeLease({ untilNs, incarnation, unfenced: false });
  return untilNs;
}

/** A new connection, accepted by the server. */
async function connect({ v6 = false } = {}): Promise<Flow> {
  port += 1;
  const { connected } = await client.do("connect", v6 ? VIP6 : VIP, 80, port, 2);
  if (!connected) throw new Error("the connection did not come about");
  await server.do("accept", 2);
  return flowOf(v6);
}

function flowOf(v6 = false): Flow {
  return {
    client: { address: v6 ? CLIENT6 : CLIENT, port },
    vip: { address: v6 ? VIP6 : VIP, port: 80 },
    transport: "tcp",
  };
}

/** Looks until it holds or 3 s are over. */
async function eventually<T>(look: () => T | Promise<T>, holds: (seen: T) => boolean): Promise<T> {
  const deadline = Date.now() + 3000;
  for (;;) {
    const seen = await look();
    if (holds(seen) || Date.now() > deadline) return seen;
    await sleep(10);
  }
}

function entryOf(flow: Flow): GuardEntry {
  const entry = guard.lookup(flow);
  if (!entry) throw new Error("no such entry");
  return entry;
}

const unacknowledged = async () => (await client.do("unacknowledged")).bytes as number;
const incoming = (frames: SeenFrame[]) => frames.filter((frame) => !frame.outgoing && frame.sourcePort === 80);
const endings = (frames: SeenFrame[]) => incoming(frames).filter(({ flags }) => flags & (TCP.FIN | TCP.RST));
const eventNames = () => events.map(({ type, tcpState }) => `${type} ${tcpState}`);

/** What an agent's nudge is: an empty segment at snd_nxt that acknowledges `consumed`. */
async function nudge(flow: Flow): Promise<void> {
  const { sendNext, consumed, tsval, tsecr, window } = entryOf(flow);
  const options = timestamps(tsval, tsecr);
  const frame = tcpFrame({ from: flow.vip, to: flow.client, seq: sendNext, ack: consumed, window, options });
  await server.do("raw", frame.subarray(14).toString("hex"), flow.client.address, BATON_MARK);
}

for (const v6 of [false, true]) {
  const family = v6 ? "IPv6" : "IPv4";

  test.serial(`${family}: a connection is born with what its handshake said`, async (t) => {
    const flow = await connect({ v6 });
    const frames = await client.frames();
    const syn = frames.find(({ flags, sourcePort }) => flags === TCP.SYN && sourcePort === port)!;
    const synAck = frames.find(
      ({ flags, destinationPort }) => flags === (TCP.SYN | TCP.ACK) && destinationPort === port,
    )!;
    t.like(entryOf(flow), {
      phase: "LIVE",
      flags: 0,
      tcpState: 1,
      incarnation: INCARNATION,
      clientIsn: syn.seq,
      serverIsn: synAck.seq,
      consumed: (syn.seq + 1) % 2 ** 32,
      sendNext: (synAck.seq + 1) % 2 ** 32,
      options: guardOption.SACK | guardOption.TIMESTAMPS,
      mss: v6 ? 1440 : 1460,
    });
    t.true(entryOf(flow).sendScale! > 0 && entryOf(flow).receiveScale! > 0);
    t.is(guard.census().phases.LIVE, 1);
  });

  test.serial(`${family}: input stays unacknowledged until it is committed`, async (t) => {
    const flow = await connect({ v6 });
    const { consumed } = entryOf(flow);
    await client.do("send", 1000);
    t.deepEqual(await server.do("receive", 1000, 2), { got: 1000, ended: null });
    await sleep(400);
    t.is(await unacknowledged(), 1000, "the server has read it and the client must keep it");
    const acks = incoming(await client.frames()).filter(({ flags }) => flags & TCP.ACK && !(flags & TCP.SYN));
    t.true(acks.length > 1);
    for (const frame of acks) t.is(frame.ack, consumed);
    t.is(acks.at(-1)!.window, 0, "the clamp lasts: the client has to know why");
    t.like(entryOf(flow), { kernelAck: (consumed + 1000) % 2 ** 32, sentAck: consumed });
    t.true(guard.verdicts().out_clamped_shut! > 0);

    guard.change(flow, { consumed: (consumed + 600) % 2 ** 32 });
    if (!v6) {
      await nudge(flow);
      t.is(await eventually(unacknowledged, (bytes) => bytes === 400), 400);
      t.is(entryOf(flow).sentAck, (consumed + 600) % 2 ** 32);
    }
    guard.change(flow, { consumed: (consumed + 1000) % 2 ** 32 });
    await server.do("send", 10); // the ack rides on data
    t.is(await eventually(unacknowledged, (bytes) => bytes === 0), 0);
    t.is((await client.do("receive", 10, 2)).got, 10);
    t.is(entryOf(flow).clampedSinceNs, 0n);
  });

  test.serial(`${family}: kill -9 in mid-send: the client sees no ending, and soon nothing at all`, async (t) => {
    const flow = await connect({ v6 });
    await server.do("blast", 1 << 30);
    t.is((await client.do("receive", 4 << 20, 5)).got, 4 << 20);
    const killed = binding.monotonicNs();
    await server.kill();
    t.deepEqual(await client.do("receive", 1 << 30, 1.5).then(({ ended }) => ended), null);
    const frames = await client.frames();
    t.deepEqual(endings(frames), []);
    const last = incoming(frames).at(-1)!;
    t.log(`the last byte came ${Number(last.timeNs - killed) / 1e6} ms after the kill`);
    t.true(last.timeNs - killed < 300_000_000n);
    t.is(entryOf(flow).phase, "SILENT");
    t.regex((await eventually(eventNames, (names) => names.length > 0)).join(), /SILENCED [47]/);
    t.true((guard.verdicts().out_silent ?? 0) > 0, "the orphan kept trying");
  });
}

test.serial("bulk in both directions passes whole", async (t) => {
  const flow = await connect();
  guard.change(flow, { setFlags: guardFlag.UNPROTECTED });
  const bytes = 64 << 20;
  const started = Date.now();
  await client.do("blast", bytes);
  t.is((await server.do("receive", bytes, 20)).got, bytes);
  const turned = Date.now();
  await server.do("blast", bytes);
  t.is((await client.do("receive", bytes, 20)).got, bytes);
  t.log(`64 MiB in: ${turned - started} ms, out: ${Date.now() - turned} ms`);
});

test.serial("kill -9 of an idle server with unread input: no reset", async (t) => {
  const flow = await connect();
  await client.do("send", 100);
  await sleep(50);
  await server.kill(); // close() with unread data resets
  await sleep(300);
  t.deepEqual(endings(await client.frames()), []);
  t.is(entryOf(flow).phase, "SILENT");
  t.regex((await eventually(eventNames, (names) => names.length > 0)).join(), /SILENCED 7/);
});

test.serial("kill -9 before accept: no reset", async (t) => {
  port += 1;
  t.true((await client.do("connect", VIP, 80, port, 2)).connected);
  await server.kill();
  await sleep(300);
  t.deepEqual(endings(await client.frames()), []);
  t.is(entryOf(flowOf()).phase, "SILENT");
});

test.serial("the lease ends to the packet, and a renewal lets the connection go on", async (t) => {
  await connect();
  await server.do("blast", 1 << 30);
  t.is((await client.do("receive", 1 << 20, 5)).got, 1 << 20);
  const until = holdLease(0.2);
  const fenced = guard.verdicts().out_fenced_lease!;
  const reading = client.do("receive", 1 << 30, 0.8);
  await reading;
  const frames = incoming(await client.frames());
  t.true(
    frames.some(({ timeNs }) => timeNs > until - 100_000_000n),
    "it was sending up to then",
  );
  const last = frames.at(-1)!.timeNs - until;
  t.log(`the last frame came ${Number(last) / 1e6} ms after the lease's end`);
  t.true(last < 20_000_000n);
  t.true(guard.verdicts().out_fenced_lease! > fenced);
  holdLease(60);
  t.is((await client.do("receive", 1 << 20, 10)).got, 1 << 20);
});

test.serial("a new incarnation: old sockets are silent for ever, new connections are served", async (t) => {
  const flow = await connect();
  await server.do("blast", 1 << 30);
  await client.do("receive", 1 << 20, 5);
  guard.fence();
  holdLease(60, INCARNATION + 1);
  await sleep(100);
  await client.frames();
  t.is((await client.do("receive", 1 << 30, 1)).ended, null);
  t.deepEqual(incoming(await client.frames()), []);
  t.true(guard.verdicts().out_fenced_incarnation! > 0);
  t.is(entryOf(flow).incarnation, INCARNATION);

  const second = new Peer(CLIENT_NAMESPACE);
  port += 1;
  t.true((await second.do("connect", VIP, 80, port, 2)).connected);
  await server.do("accept", 2);
  await server.do("send", 10);
  t.is((await second.do("receive", 10, 2)).got, 10);
  t.is(entryOf(flowOf()).incarnation, INCARNATION + 1);
  t.deepEqual(endings(await client.frames()), []);
});

test.serial("FIN: not before it is committed", async (t) => {
  const flow = await connect();
  await server.do("send", 5);
  await server.do("shutdown");
  t.deepEqual(await client.do("receive", 10, 0.5), { got: 5, ended: null });
  t.deepEqual(endings(await client.frames()), []);
  t.is(entryOf(flow).phase, "SILENT");
  t.deepEqual(await eventually(eventNames, (names) => names.length > 0), ["SILENCED 4"]);
});

test.serial("FIN: only at the committed place; the rest of the closing is orderly", async (t) => {
  const flow = await connect();
  const wrong = (entryOf(flow).sendNext + 6) % 2 ** 32;
  guard.change(flow, { finSeq: wrong });
  await server.do("send", 5);
  await server.do("shutdown");
  t.deepEqual(await client.do("receive", 10, 0.5), { got: 5, ended: null });
  t.deepEqual(endings(await client.frames()), []);
  t.true(guard.verdicts().out_fin! > 0);
  t.is(guard.change(flow, { finSeq: wrong - 1 })!.phase, "LIVE");
  t.deepEqual(await client.do("receive", 10, 3), { got: 0, ended: "end" }, "the kernel tries again, now it may leave");
  await client.do("close");
  await eventually(
    () => entryOf(flow).phase,
    (phase) => phase === "ENDED",
  );
  t.is(entryOf(flow).phase, "ENDED");
  await eventually(eventNames, (names) => names.length > 1);
  t.deepEqual(eventNames(), ["STATE 5", "STATE 7"], "FIN_WAIT2, then CLOSE in favour of TIME_WAIT");
  // Connections of earlier tests may still be trying to end.
  const seen = (await client.frames()).filter((frame) =>
    [frame.sourcePort, frame.destinationPort].includes(flow.client.port),
  );
  const fins = seen.filter(({ outgoing, flags }) => outgoing && flags & TCP.FIN);
  t.is(fins.length, 1, "the client's FIN was acknowledged at once");
  t.is(fins[0]!.ack, wrong);
  t.is(seen.at(-1)!.ack, (fins[0]!.seq + 1) % 2 ** 32, "past what the agent has committed: nothing is left to protect");
});

test.serial("FIN: an unprotected connection ends when the agent closes it, and only then", async (t) => {
  const flow = await connect();
  guard.change(flow, { setFlags: guardFlag.UNPROTECTED });
  await client.do("send", 100);
  await server.do("receive", 100, 2);
  t.is(await eventually(unacknowledged, (bytes) => bytes === 0), 0, "no clamp");
  guard.change(flow, { setFlags: guardFlag.FIN_ASKED });
  await server.do("close");
  t.deepEqual(await client.do("receive", 1, 2), { got: 0, ended: "end" });

  await connect();
  guard.change(flowOf(), { setFlags: guardFlag.UNPROTECTED });
  await server.kill();
  t.deepEqual(await client.do("receive", 1, 0.5), { got: 0, ended: null });
  t.is(entryOf(flowOf()).phase, "SILENT");
});

test.serial("RST: not unless the agent asks for it", async (t) => {
  const flow = await connect();
  await server.do("abort");
  t.deepEqual(await client.do("receive", 1, 0.5), { got: 0, ended: null });
  t.is(entryOf(flow).phase, "SILENT");

  const asked = await connect();
  guard.change(asked, { setFlags: guardFlag.RST_ASKED });
  await server.do("abort");
  t.deepEqual(await client.do("receive", 1, 2), { got: 0, ended: "reset" });
  t.is(entryOf(asked).phase, "ENDED");
});

test.serial("the client's own ending is told and silences nothing", async (t) => {
  const halfClosed = await connect();
  await client.do("shutdown");
  await eventually(eventNames, (names) => names.length > 0);
  t.deepEqual(eventNames(), ["STATE 8"]);
  t.like(entryOf(halfClosed), { phase: "LIVE", tcpState: 8 });
  events = [];
  const reset = await connect();
  await client.do("abort");
  await eventually(eventNames, (names) => names.length > 0);
  t.deepEqual(
    events
      .filter(({ flow }) => flow.client.port === reset.client.port)
      .map(({ type, tcpState }) => `${type} ${tcpState}`),
    ["STATE 7"],
  );
  t.is(entryOf(reset).phase, "ENDED");
});

test.serial("closing in repair mode is silent and silences", async (t) => {
  const flow = await connect();
  await server.do("enter_repair");
  await server.do("close");
  await sleep(200);
  t.deepEqual(endings(await client.frames()), []);
  t.is(entryOf(flow).phase, "SILENT");
});

test.serial("a rebuilt socket keeps the entry that was made for it, and speaks when that goes live", async (t) => {
  const flow = await connect();
  await server.do("send", 20);
  await client.do("receive", 20, 2);
  const { sendNext, consumed, clientIsn, serverIsn } = entryOf(flow);
  await server.do("enter_repair");
  await server.do("close");
  const twin = { phase: "PROBE", incarnation: INCARNATION, clientIsn, serverIsn, consumed, sendNext } as const;
  guard.install(flow, twin);
  t.throws(() => guard.install(flow, twin), { instanceOf: BatonError, code: "PROTOCOL_VIOLATED" });
  const { sendNext: seq } = entryOf(flow);
  await server.do("repair", VIP, 80, CLIENT, port, seq, consumed);
  t.like(entryOf(flow), { ...twin, tcpState: 1 });
  await server.do("leave_repair");
  await server.do("send", 5);
  t.is((await client.do("receive", 5, 0.4)).got, 0, "unready");
  guard.change(flow, { phase: "LIVE", setFlags: guardFlag.WATCH_LATE });
  t.is((await client.do("receive", 5, 3)).got, 5);
});

test.serial(
  "an unready connection: the client's answer reaches the agent, the agent's probe reaches the client",
  async (t) => {
    port += 1;
    const flow = flowOf();
    guard.install(flow, {
      phase: "PROBE",
      incarnation: INCARNATION,
      clientIsn: 99,
      serverIsn: 9,
      consumed: 1000,
      sendNext: 2000,
    });
    const answer = {
      from: flow.client,
      to: flow.vip,
      seq: 1000,
      ack: 2000,
      window: 321,
      options: timestamps(11, 12),
      payload: Buffer.from("abc"),
      sourceMac: CLIENT_MAC,
      destinationMac: SERVER_MAC,
    };
    await client.do("inject", "eth0", tcpFrame(answer).toString("hex"));
    await eventually(
      () => events.length,
      (count) => count > 0,
    );
    t.like(events[0], { type: "ANSWER", flow, seq: 1000, ack: 2000, payload: 3, window: 321, tcpFlags: TCP.ACK });
    t.deepEqual(events[0]!.timestamps, { value: 11, echo: 12 });
    t.true(binding.monotonicNs() - events[0]!.timeNs < 5_000_000_000n);

    const probe = tcpFrame({ from: flow.vip, to: flow.client, seq: 1999, ack: 1000, payload: Buffer.from("x") });
    await server.do("raw", probe.subarray(14).toString("hex"), CLIENT, 0);
    await sleep(50);
    t.deepEqual(incoming(await client.frames()), [], "without the mark it is nobody's");
    await server.do("raw", probe.subarray(14).toString("hex"), CLIENT, BATON_MARK);
    const seen = await eventually(
      async () => incoming(await client.frames()),
      (frames) => frames.length > 0,
    );
    t.like(seen[0], { seq: 1999, ack: 1000, payload: 1 });

    const said = { window: 7, tsval: 8, tsecr: 9 };
    t.like(
      guard.change(flow, { phase: "LIVE", setFlags: guardFlag.WATCH_LATE, said }),
      said,
      "a nudge has what it needs",
    );
    events = [];
    await client.do("inject", "eth0", tcpFrame({ ...answer, ack: 2001 }).toString("hex"));
    await eventually(
      () => events.length,
      (count) => count > 0,
    );
    t.like(events[0], { type: "LATE_ACK", flow, ack: 2001 });
  },
);

test.serial(
  "packets of connections that are not here never meet the stack: no reset, back to the appliance",
  async (t) => {
    port += 1;
    const stray = tcpFrame({
      from: flowOf().client,
      to: flowOf().vip,
      seq: 5,
      ack: 6,
      sourceMac: CLIENT_MAC,
      destinationMac: SERVER_MAC,
    }).toString("hex");
    const before = guard.verdicts();
    await client.do("inject", "eth0", stray);
    await sleep(100);
    t.deepEqual(incoming(await client.frames()), []);
    t.true(guard.verdicts().in_not_here_dropped! > before.in_not_here_dropped!); // other tests' orphans may be about

    guard.setAppliances([CLIENT_MAC]);
    await client.do("inject", "eth0", stray);
    // Of this connection: what clients of earlier tests repeat comes back as well.
    const back = await eventually(
      async () => (await client.frames()).filter(({ outgoing, sourcePort }) => !outgoing && sourcePort === port),
      (frames) => frames.length > 0,
    );
    t.is(back.length, 1);
    t.like(back[0], {
      sourceMac: SERVER_MAC,
      destinationMac: CLIENT_MAC,
      sourcePort: port,
      seq: 5,
      checksumHolds: true,
    });
    t.true(guard.verdicts().in_not_here! > before.in_not_here!);

    await server.kill(); // nobody listens: a SYN would be answered with a reset
    t.deepEqual(await client.do("connect", VIP, 80, port, 0.5), { connected: false });
    t.deepEqual(endings(await client.frames()), []);
  },
);

for (const v6 of [false, true]) {
  test.serial(`an ack that shuts the window cannot be taken for a predicted one: IPv${v6 ? 6 : 4}`, async (t) => {
    await connect({ v6 });
    inNamespace(CLIENT_NAMESPACE, "ethtool", "-K", "eth0", "tx", "off"); // whole checksums, so that they can be checked
    await server.do("sniff", "eth0");
    await server.do("blast", 8_000_000); // and the client does not read
    const seen: SeenFrame[] = [];
    await eventually(
      async () => {
        seen.push(...(await server.frames()).filter(({ outgoing }) => !outgoing));
        return seen.some(({ window }) => window === 0);
      },
      (shut) => shut,
    );
    const ECE = 0x40;
    t.true(seen.some(({ window }) => window === 0));
    for (const { window, flags, checksumHolds } of seen) {
      t.is(flags & ECE, window === 0 ? ECE : 0);
      t.true(checksumHolds);
    }
    inNamespace(CLIENT_NAMESPACE, "ethtool", "-K", "eth0", "tx", "on");
  });
}

for (const v6 of [false, true]) {
  test.serial(
    `under a clamp a client's ack opens its window again, also from before a gap: IPv${v6 ? 6 : 4}`,
    async (t) => {
      const flow = await connect({ v6 });
      inNamespace(CLIENT_NAMESPACE, "ethtool", "-K", "eth0", "tx", "off"); // whole checksums, so that they can be checked
      await server.do("sniff", "eth0");
      await client.do("send", 1000); // not committed: the client is not told
      const { clampedSinceNs, consumed, sendNext } = await eventually(
        () => entryOf(flow),
        (entry) => entry.clampedSinceNs !== 0n,
      );
      t.not(clampedSinceNs, 0n);
      const segment = { from: flow.client, to: flow.vip, sourceMac: CLIENT_MAC, destinationMac: SERVER_MAC };
      const inject = (what: { seq: number; flags?: number; window?: number; payload?: Buffer }) =>
        client.do("inject", "eth0", tcpFrame({ ...segment, ack: sendNext, ...what }).toString("hex"));
      await inject({ seq: add(consumed, 5000), window: 0, payload: Buffer.from("behind a gap") });
      await inject({ seq: add(consumed, -1), window: 1 }); // an answer to a probe of whether it is alive
      await inject({ seq: consumed, flags: TCP.ACK | TCP.URG, window: 2 });
      await server.do("send", 100); // the kernel asks for the window, and the client says it from where it is
      t.is((await client.do("receive", 100, 10)).got, 100);
      const seen = (await server.frames()).filter(({ outgoing, sourcePort }) => !outgoing && sourcePort === port);
      const whole = seen.filter(({ payload }) => payload < 100); // of the others only the beginning is seen
      t.true(whole.every(({ checksumHolds }) => checksumHolds));
      t.true(
        seen.some(({ seq, payload }) => seq === add(consumed, 5000) && payload === 0),
        "it is put there",
      );
      t.true(
        seen.some(({ seq, payload }) => seq === consumed && payload === 1000),
        "data stay",
      );
      t.is(seen.find(({ window }) => window === 1)?.seq, add(consumed, -1));
      t.is(seen.find(({ window }) => window === 2)?.seq, consumed);
      inNamespace(CLIENT_NAMESPACE, "ethtool", "-K", "eth0", "tx", "on");
    },
  );
}

test.serial("a living socket without an entry says nothing", async (t) => {
  const flow = await connect();
  guard.remove(flow);
  await sleep(100);
  await client.frames();
  await server.do("send", 10);
  await server.do("close");
  t.deepEqual(await client.do("receive", 10, 0.4), { got: 0, ended: null });
  t.deepEqual(incoming(await client.frames()), []);
});

test.serial("a VIP does not say that a port is unreachable", async (t) => {
  const before = guard.verdicts().out_icmp!;
  t.deepEqual(await client.do("datagram", VIP, 9), { error: "TimeoutError" });
  t.deepEqual(await client.do("datagram", VIP6, 9), { error: "TimeoutError" });
  t.true(guard.verdicts().out_icmp! >= before + 2);
  t.deepEqual(await client.do("datagram", "10.78.0.101", 9), { error: "ConnectionRefusedError" });
});

test.serial("a connection born from a SYN cookie is here, and marked as such", async (t) => {
  inNamespace(SERVER_NAMESPACE, "sysctl", "-qw", "net.ipv4.tcp_syncookies=2");
  t.teardown(() => inNamespace(SERVER_NAMESPACE, "sysctl", "-qw", "net.ipv4.tcp_syncookies=1"));
  for (const v6 of [false, true]) {
    const flow = await connect({ v6 });
    t.true((entryOf(flow).options & guardOption.COOKIE) !== 0);
    await server.do("send", 10);
    t.is((await client.do("receive", 10, 2)).got, 10);
  }
});

test.serial("the table is nearly full: a client's SYN is dropped, and its next one finds room", async (t) => {
  const capacity = 64;
  const forBirths = 60;
  const spare = (n: number): Flow => ({ ...flowOf(), client: { address: "10.78.1.1", port: 1000 + n } });
  const entry = {
    phase: "LIVE",
    incarnation: INCARNATION,
    clientIsn: 1,
    serverIsn: 1,
    consumed: 2,
    sendNext: 2,
  } as const;
  for (let n = 0; n < forBirths; n++) guard.install(spare(n), entry);
  t.deepEqual(guard.room(), { used: forBirths, capacity, forBirths: false });
  const before = guard.verdicts();
  const connecting = connect(); // its kernel sends the SYN again after a second
  await eventually(
    () => guard.verdicts(),
    (now) => now.in_no_room === before.in_no_room! + 1,
  );
  t.is(guard.lookup(flowOf()), undefined);

  let made = forBirths;
  t.throws(
    () => {
      for (; made < 100; made++) guard.install(spare(made), entry);
    },
    { instanceOf: BatonError, code: "LIMIT_REACHED" },
    "the rest is for connections that are taken over",
  );
  t.is(made, capacity);
  for (let n = 0; n < 10; n++) guard.remove(spare(n));
  t.true(guard.room().forBirths);
  await connecting;
  await server.do("send", 10);
  t.is((await client.do("receive", 10, 2)).got, 10);
  t.like(guard.verdicts(), { in_no_room: before.in_no_room! + 1, table_full: before.table_full! });
});

test.serial("the tuple comes back: an entry that is over gives way, a living one stands", async (t) => {
  const flow = await connect();
  const first = entryOf(flow);
  guard.change(flow, { setFlags: guardFlag.UNPROTECTED | guardFlag.FIN_ASKED });
  await client.do("abort");
  await eventually(
    () => entryOf(flow).phase,
    (phase) => phase === "ENDED",
  );
  t.true((await client.do("connect", VIP, 80, port, 2)).connected);
  await server.do("accept", 2);
  t.like(entryOf(flow), { phase: "LIVE", flags: 0, incarnation: INCARNATION });
  t.not(entryOf(flow).clientIsn, first.clientIsn);
});

test.serial("sweep: takes what is over and old, counts the rest", async (t) => {
  const alive = await connect();
  const ended = { ...alive, client: { ...alive.client, port: 1 } };
  const stale = { ...alive, client: { ...alive.client, port: 2 } };
  const probe = { ...alive, client: { ...alive.client, port: 3 } };
  const entry = { incarnation: INCARNATION, clientIsn: 1, serverIsn: 1, consumed: 2, sendNext: 2 };
  guard.install(ended, { ...entry, phase: "ENDED" });
  guard.install(stale, { ...entry, phase: "LIVE", incarnation: INCARNATION - 1 });
  guard.install(probe, { ...entry, phase: "PROBE" });
  const phases = { LIVE: 1, PROBE: 1, SILENT: 0, FROZEN: 0, ENDED: 1 };
  t.deepEqual(guard.sweep(10), { removed: 0, stale: 1, phases }, "none is that old");
  t.deepEqual(guard.sweep(0), { removed: 2, stale: 0, phases: { ...phases, ENDED: 0 } });
  t.truthy(guard.lookup(alive));
  t.truthy(guard.lookup(probe));
  t.is(guard.lookup(ended), undefined);
});

test.serial("a second load adopts the entries while data flows, without an ending or a leak", async (t) => {
  const flow = await connect();
  await server.do("blast", 48 << 20);
  const reading = client.do("receive", 48 << 20, 20);
  const before = entryOf(flow);
  const again = loadGuard({ services: [{ port: 80 }, { port: 81 }] });
  t.teardown(() => again.close());
  t.is((await reading).got, 48 << 20);
  t.like(again.lookup(flow), { clientIsn: before.clientIsn, phase: "LIVE" });
  t.is(again.lease().incarnation, INCARNATION);
  await server.kill();
  await sleep(200);
  t.deepEqual(endings(await client.frames()), []);
  t.is(again.lookup(flow)!.phase, "SILENT", "the new program watches");
});

test.serial("a pinned table of another size is refused, not thrown away", (t) => {
  const error = t.throws(() => loadGuard({ flows: 128 }));
  t.regex(String(error), /flows.*does not fit.*max_entries/s);
});

test.serial("unload leaves nothing behind", async (t) => {
  await server.kill();
  Guard.unload(PINS);
  Guard.unload(PINS);
  t.false(existsSync(PINS));
  t.false(existsSync("/sys/fs/bpf/baton-test-guard"));
  t.throws(() => Guard.open(PINS), { code: "BPF_FAILED" });
  const attached = await eventually(
    () => inNamespace(SERVER_NAMESPACE, "bpftool", "-j", "net", "show", "dev", "eth0"),
    (text) => !text.includes("guard_"),
  );
  t.notRegex(attached, /guard_/);
  t.deepEqual(await client.do("connect", VIP, 80, port + 1, 2), { connected: false, error: "ConnectionRefusedError" });
});
