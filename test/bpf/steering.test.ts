import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { flowHash, MAGLEV_SIZE, maglevTable } from "../../bpf/maglev.js";
import type { ServicePort } from "../../proto/config/index.js";
import type { Flow } from "../../proto/flow.js";
import { eventually } from "../support/eventually.js";
import { TCP, tcpFrame, udpFrame } from "./guard/packet.js";
import { macText } from "./steer/frames.js";
import { interfaceText, LiveSteering, makeWire, OWN_MAC, PINS, removeWire, Wire } from "./steer/wire.js";

/** The packet path attached to a real interface, and driven by a process that may die. */

const MEMBERS = [1, 2].map((slot) => ({ name: `s${slot}`, slot }));
const DATA_PORT = 40_000;
const OPTIONS = {
  interface: "eth0",
  pins: PINS,
  vips: ["10.79.0.100"],
  ownMac: Buffer.from(OWN_MAC.replaceAll(":", ""), "hex"),
  services: [
    { port: 80 },
    { port: DATA_PORT, transport: "tcp", related: true },
    { port: DATA_PORT, transport: "udp", related: true },
  ] satisfies ServicePort[],
  holdMs: 5000,
  holdMegabytes: 16,
  holdPacketsPerFlow: 1000,
};
let wire: Wire;
let live: LiveSteering;
let port = 30_000;

test.before(async (t) => {
  t.timeout(60_000);
  makeWire();
  wire = new Wire();
  live = await steering();
});

test.after.always(async () => {
  await live?.kill();
  await wire?.close();
  removeWire();
});

test.beforeEach(async (t) => {
  t.timeout(30_000);
  await fill(live);
});

function serverMac(slot: number): Buffer {
  return Buffer.from([2, 0, 0, 0x79, 1, slot]);
}

async function fill(to: LiveSteering): Promise<void> {
  for (const { slot } of MEMBERS)
    await to.call("setServer", slot, { mac: serverMac(slot), state: "up", generation: 1 });
  await to.call("setTables", MEMBERS, MEMBERS);
}

async function steering(options: Partial<typeof OPTIONS> = {}): Promise<LiveSteering> {
  const started = new LiveSteering();
  try {
    await started.call("load", { ...OPTIONS, ...options });
    return started;
  } catch (error) {
    await started.kill();
    throw error;
  }
}

/** A flow that Maglev sends to this slot. */
function flowOf(slot: number): Flow {
  const table = maglevTable(MEMBERS.map(({ name }) => name));
  for (;;) {
    const client = { address: "10.79.0.10", port: port++ };
    const flow: Flow = { client, vip: { address: "10.79.0.100", port: 80 }, transport: "tcp" };
    if (MEMBERS[table[flowHash(flow) % MAGLEV_SIZE]!]!.slot === slot) return flow;
  }
}

function segment(flow: Flow, seq: number, payload = 10, sourceMac = "02:00:00:79:00:0a"): Buffer {
  const ends = { from: flow.client, to: flow.vip, sourceMac, destinationMac: OWN_MAC };
  return tcpFrame({ ...ends, seq, ack: 7, flags: TCP.ACK, payload: Buffer.alloc(payload, seq) });
}

const destination = (frame: Buffer | undefined) => frame && macText(frame.subarray(0, 6));
const seqOf = (frame: Buffer) => frame.readUInt32BE(38);

test.serial("frames come in by the interface and go out to their server", async (t) => {
  const flow = flowOf(1);
  await wire.send(segment(flow, 100));
  const [frame] = await wire.frames(1);
  t.is(destination(frame), macText(serverMac(1)));
  t.is(macText(frame!.subarray(6, 12)), OWN_MAC);
  t.like(await live.call("hintsOf", flow), { slot: 1, ack: 7, seq: 110 });
});

test.serial("the controller's death stops nothing; the next one adopts what was there", async (t) => {
  const flow = flowOf(1);
  await live.call("putExceptions", [{ flow, slot: 2, generation: 1 }]);
  await wire.send(segment(flow, 1));
  t.is(destination((await wire.frames(1))[0]), macText(serverMac(2)));
  await live.kill();
  await wire.send(segment(flow, 2));
  t.is(destination((await wire.frames(1))[0]), macText(serverMac(2)), "nobody is there, and it is forwarded");
  live = await steering({ holdMs: 6000 });
  await wire.send(segment(flow, 3));
  t.is(destination((await wire.frames(1))[0]), macText(serverMac(2)), "before the new one has set anything");
  t.deepEqual(await live.call("exceptions"), [{ flow, slot: 2, generation: 1 }]);
  t.is((await live.call("verdicts")).forward_exception, 3);
  t.like(await live.call("hintsOf", flow), { slot: 2, seq: 13 });
});

test.serial("what is held of a dead server leaves in order for the heir, and nothing overtakes it", async (t) => {
  const flow = flowOf(1);
  await live.call("setServer", 1, { mac: serverMac(1), state: "takeover", generation: 1 });
  for (let i = 0; i < 50; i++) await wire.send(segment(flow, 1000 + i));
  t.deepEqual(await live.event("held"), [flow]);
  const held = await eventually("all 50 in the queue", async () =>
    (await live.call("held")).find(({ packets }) => packets === 50),
  );
  t.deepEqual(held.flow, flow);
  t.is(seqOf(Buffer.from(held.first)), 1000);
  t.is(seqOf(Buffer.from(held.last)), 1049);
  const sending = (async () => {
    for (let i = 50; i < 150; i++) await wire.send(segment(flow, 1000 + i));
  })();
  const [released] = await live.call("assign", [{ flow, slot: 2 }]);
  await live.call("putExceptions", [{ flow, slot: 2, generation: 1 }]);
  await live.call("forget", flow);
  await sending;
  const frames = await wire.frames(150);
  t.deepEqual(
    frames.map(seqOf),
    [...Array(150)].map((_, i) => 1000 + i),
  );
  t.true(
    frames.every((frame) => destination(frame) === macText(serverMac(2)) && macText(frame.subarray(6, 12)) === OWN_MAC),
  );
  t.true(released!.packets >= 50 && released!.heldUs > 0);
  await live.call("setServer", 1, { mac: serverMac(1), state: "down", generation: 1 });
  await wire.send(segment(flow, 2000));
  t.is(destination((await wire.frames(1))[0]), macText(serverMac(2)));
});

test.serial(
  "a bundle's packets leave in the order in which they came, each as it was, also for the next controller",
  async (t) => {
    const flow = flowOf(1);
    const control = { clientPort: flow.client.port, vipPort: 80, clientIsn: 7 };
    const vip = { ...flow.vip, port: DATA_PORT };
    const data: Flow = { client: { ...flow.client, port: port++ }, vip, transport: "tcp" };
    const media: Flow = { client: { ...flow.client, port: 0 }, vip, transport: "udp" };
    for (const related of [data, media]) await live.call("relate", related, control);
    await live.call("beginHold", flow, { slot: 1, generation: 1 }, 10_000);
    const ends = { from: { ...flow.client, port: port++ }, to: vip, destinationMac: OWN_MAC };
    const sent = [...Array(30)].map((_, i) => {
      if (i % 3 === 0) return segment(flow, i);
      return i % 3 === 1 ? segment(data, i) : udpFrame({ ...ends, payload: Buffer.alloc(20, i) });
    });
    for (const frame of sent) await wire.send(frame);
    t.deepEqual(await live.event("held"), [flow]);
    await eventually("all in the queue", async () => (await live.call("held"))[0]?.packets === sent.length);
    await live.call("assign", [{ flow, slot: 2 }]);
    await live.call("putExceptions", [{ flow, slot: 2, generation: 1 }]);
    await live.call("forget", flow);
    const frames = await wire.frames(sent.length);
    t.deepEqual(
      frames.map((frame) => frame.subarray(12)),
      sent.map((frame) => frame.subarray(12)),
    );
    t.true(frames.every((frame) => destination(frame) === macText(serverMac(2))));
    await live.kill();
    live = await steering();
    const known = await live.call("relations");
    t.deepEqual(
      known.sort((a, b) => b.flow.client.port - a.flow.client.port),
      [
        { flow: data, control },
        { flow: media, control },
      ],
    );
    await wire.send(segment(data, 99));
    t.is(destination((await wire.frames(1))[0]), macText(serverMac(2)));
  },
);

test.serial("a held flow can be dropped", async (t) => {
  const flow = flowOf(2);
  await live.call("setServer", 2, { mac: serverMac(2), state: "held", generation: 1 });
  await wire.send(segment(flow, 1), segment(flow, 2));
  t.deepEqual(await live.event("held"), [flow]);
  t.is(await live.call("drop", flow), 2);
  t.deepEqual(await live.call("held"), []);
  await live.call("setServer", 2, { mac: serverMac(2), state: "up", generation: 1 });
  await wire.send(segment(flow, 3));
  t.deepEqual((await wire.frames(1)).map(seqOf), [3]);
});

test.serial("a packet that its own server sends back is reported with the server's slot", async (t) => {
  const flow = flowOf(2);
  const frame = segment(flow, 1, 10, macText(serverMac(2)));
  await wire.send(frame);
  const [bounced] = (await live.event<Array<{ flow: Flow; slot: number; frame: Uint8Array }>>("bounced"))!;
  t.deepEqual({ ...bounced!, frame: Buffer.from(bounced!.frame) }, { flow, slot: 2, frame });
});

test.serial("one flow of a living server is held for a migration, at most until the deadline", async (t) => {
  const flow = flowOf(1);
  await live.call("beginHold", flow, { slot: 1, generation: 1 }, 300);
  await wire.send(segment(flow, 1));
  t.deepEqual(await live.event("held"), [flow]);
  await sleep(350);
  await wire.send(segment(flow, 2));
  t.deepEqual((await wire.frames(1)).map(seqOf), [2]);
  t.is((await live.call("verdicts")).forward_hold_expired, 1);
  t.is(await live.call("drop", flow), 1);
});

test.serial("a controller that starts knows the servers, and which holds are for a migration", async (t) => {
  const [moving, waiting] = [flowOf(1), flowOf(2)];
  await live.call("beginHold", moving, { slot: 1, generation: 1 }, 10_000);
  await live.call("setServer", 2, { mac: serverMac(2), state: "held", generation: 1 });
  await wire.send(segment(waiting, 1));
  t.deepEqual(await live.event("held"), [waiting]);
  await live.kill();
  live = await steering();
  t.deepEqual(await live.call("holding"), [{ flow: moving, slot: 1 }]);
  t.deepEqual([await live.call("stateOf", 1), await live.call("stateOf", 2)], ["up", "held"]);
  t.deepEqual(await live.call("assign", [{ flow: moving, slot: 2 }]), [{ packets: 0, heldUs: 0 }]);
  await live.call("putExceptions", [{ flow: moving, slot: 2, generation: 1 }]);
  await live.call("forget", moving);
  for (const flow of [moving, waiting]) await live.call("drop", flow);
});

test.serial("whatever is wrong is said with its code", async (t) => {
  await t.throwsAsync(steering({ interface: "eth9" }), { code: "NOT_FOUND", message: /eth9/ });
  const vips = [...Array(9)].map((_, i) => `10.79.0.${200 + i}`);
  await t.throwsAsync(steering({ vips }), { code: "CONFIG_INVALID" });
  await t.throwsAsync(steering({ pins: `${PINS}2` }), { code: "BPF_FAILED", message: /eth0/ });
  await live.call("unload", `${PINS}2`);
});

test.serial("unloaded, nothing of it is left", async (t) => {
  t.regex(interfaceText(), /xdp/);
  await live.call("unload", PINS);
  await live.call("close");
  t.notRegex(interfaceText(), /xdp/);
  t.false(existsSync(PINS));
});
