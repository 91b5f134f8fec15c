/** What needs a network namespace of its own: run as `node scenarios.js NAME`; exit status 0 if it held. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { BindingError, binding } from "../../../bpf/binding/index.js";
import { Appliance, flowOf, frame, makeWire, nearMac, objectPath, run, type Seen, u32, until } from "./appliance.js";
import { makePins, pins, removePins } from "./namespace.js";

const owner = Buffer.from("0200000000aa", "hex");
const heir = Buffer.from("0200000000bb", "hex");

function numbers(seen: Seen[], flow: number): number[] {
  return seen.filter((packet) => packet.flow === flow).map((packet) => packet.number);
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

function code(error: unknown): string {
  assert.ok(error instanceof BindingError, `${error} is no BindingError`);
  return error.code;
}

function failsWith(wanted: string, body: () => unknown): void {
  assert.throws(body, (error) => code(error) === wanted);
}

/** A sender on `far` whose frames arrive at `near`. */
function sender(ifname: string) {
  const object = binding.load(objectPath);
  return binding.holdQueue({
    heldPackets: object.map("held_packets"),
    holds: object.map("holds"),
    release: object.program("steer_release"),
    interface: ifname,
    maxBytes: 1,
    maxPackets: 1,
    onHeld: () => {},
    onBounced: () => {},
  });
}

const scenarios: Record<string, () => Promise<void>> = {
  async xdp() {
    makeWire();
    const far = sender("far");
    const first = binding.load(objectPath, { pinDir: pins, pinMaps: ["calls", "events"] });
    const calls = () => Number(first.map("calls").lookup(u32(0))?.readBigUInt64LE());
    const pin = `${pins}/links/xdp`;
    const link = first.program("drop_all").attachXdp("near", { pin });
    assert.ok(existsSync(pin));
    far.send(frame({ flow: 1, number: 0 }));
    await until(() => calls() === 1, "one packet seen");
    failsWith("EBUSY", () => first.program("capture").attachXdp("near"));
    failsWith("ENODEV", () => first.program("capture").attachXdp("nowhere"));

    // The pinned link keeps the program on when its descriptors go.
    link.close();
    far.send(frame({ flow: 1, number: 1 }));
    await until(() => calls() === 2, "still attached");

    // Another load adopts the link and swaps its own program in.
    const second = binding.load(objectPath, { pinDir: pins, pinMaps: ["calls", "events"] });
    const records: Buffer[] = [];
    binding.ringBuffer(second.map("events"), (record) => records.push(record));
    const adopted = second.program("capture").attachXdp("near", { pin });
    const sent = frame({ flow: 1, number: 2 });
    far.send(sent);
    await until(() => records.length === 1, "the new program's record");
    assert.deepEqual(records[0], sent);
    assert.equal(calls(), 3);

    // Pinned to one interface, it is nobody else's.
    failsWith("EEXIST", () => second.program("capture").attachXdp("far", { pin }));
    adopted.detach();
    assert.ok(!existsSync(pin));
    far.send(frame({ flow: 1, number: 3 }));
    await sleep(20);
    assert.equal(calls(), 3);

    // A pin whose interface is gone does not stand in the way.
    second.program("capture").attachXdp("near", { pin });
    run("ip link del near");
    makeWire();
    second.program("capture").attachXdp("near", { pin });
    sender("far").send(sent);
    await until(() => records.length === 2, "a record over the new interface");
  },

  async tc() {
    makeWire();
    const object = binding.load(objectPath);
    const calls = () => Number(object.map("calls").lookup(u32(1))?.readBigUInt64LE());
    const near = sender("near");
    const pin = `${pins}/tc`;
    object.program("pass_tc").attachTc("near", "egress", { pin }).close();
    near.send(frame({ flow: 1, number: 0 }));
    assert.equal(calls(), 1);
    const adopted = object.program("pass_tc").attachTc("near", "egress", { pin });
    near.send(frame({ flow: 1, number: 1 }));
    assert.equal(calls(), 2);
    const ingress = object.program("pass_tc").attachTc("far", "ingress");
    near.send(frame({ flow: 1, number: 2 }));
    await until(() => calls() === 4, "egress and ingress");
    adopted.detach();
    ingress.detach();
    near.send(frame({ flow: 1, number: 3 }));
    await sleep(20);
    assert.equal(calls(), 4);
    assert.ok(!existsSync(pin));
  },

  async cgroup() {
    run("ip link set lo up");
    const object = binding.load(objectPath);
    const calls = (program: number) => Number(object.map("calls").lookup(u32(program))?.readBigUInt64LE());
    const folder = `/sys/fs/cgroup/unified/bt-binding-${process.pid}`;
    mkdirSync(folder);
    const before = readFileSync("/proc/self/cgroup", "utf8").match(/^0::(.*)$/m)?.[1] ?? "/";
    try {
      object
        .program("on_sock_ops")
        .attachCgroup(folder, { pin: `${pins}/sockops` })
        .close();
      const tracing = object.program("on_state").attachTracing({ pin: `${pins}/tracing` });
      writeFileSync(`${folder}/cgroup.procs`, String(process.pid));
      const server = createServer((socket) => socket.end()).listen(0, "127.0.0.1");
      await new Promise((resolve) => server.once("listening", resolve));
      const port = (server.address() as { port: number }).port;
      const visit = () => new Promise((resolve) => connect(port, "127.0.0.1").resume().on("close", resolve));
      await visit();
      assert.ok(calls(2) > 0, "sock_ops saw nothing");
      assert.ok(calls(3) > 0, "tracing saw nothing");

      // The other descriptors are gone, the pins still work, and can be taken over.
      tracing.close();
      const traced = calls(3);
      await visit();
      assert.ok(calls(3) > traced);
      object
        .program("on_state")
        .attachTracing({ pin: `${pins}/tracing` })
        .detach();
      object
        .program("on_sock_ops")
        .attachCgroup(folder, { pin: `${pins}/sockops` })
        .detach();
      assert.ok(!existsSync(`${pins}/tracing`) && !existsSync(`${pins}/sockops`));
      const sockOps = calls(2);
      await visit();
      assert.equal(calls(2), sockOps);
      server.close();
    } finally {
      writeFileSync(`/sys/fs/cgroup/unified${before}/cgroup.procs`, String(process.pid));
      rmdirSync(folder);
    }
  },

  /** Held packets leave in order, whole, with the new owner's address; then XDP forwards by itself. */
  async release() {
    const appliance = new Appliance();
    appliance.hold(1);
    appliance.hold(2);
    for (const number of upTo(50)) {
      appliance.arrive(frame({ flow: 1, number }, { size: 64 + number * 20 }));
      appliance.arrive(frame({ flow: 2, number }));
    }
    await until(() => appliance.queue.stats().packets === 100, "100 packets in the queue");
    assert.equal(appliance.seen.length, 0);
    await until(() => appliance.held.length === 2, "two flows told of");
    assert.deepEqual([...appliance.held].sort(Buffer.compare), [flowOf(1), flowOf(2)]);
    const snapshot = appliance.queue.flows().find(({ flow }) => flow.equals(flowOf(1)));
    assert.deepEqual([snapshot?.packets, snapshot?.first.length, snapshot?.last.length], [50, 64, 64 + 49 * 20]);
    assert.ok(snapshot && binding.monotonicNs() - snapshot.sinceNs < 5_000_000_000n);

    const started = binding.monotonicNs();
    const result = await appliance.queue.assign(flowOf(1), 7, heir);
    const tookUs = Number(binding.monotonicNs() - started) / 1000;
    assert.equal(result.packets, 50);
    assert.ok(result.heldUs > 0 && result.heldUs < 5_000_000, `heldUs ${result.heldUs}`);
    await until(() => appliance.seen.length === 50, "50 packets sent");
    assert.deepEqual(numbers(appliance.seen, 1), upTo(50));
    for (const packet of appliance.seen) {
      const whole = frame({ flow: 1, number: packet.number }, { size: 64 + packet.number * 20 });
      heir.copy(whole, 0);
      nearMac.copy(whole, 6);
      assert.deepEqual(packet.bytes, whole);
    }
    const entry = appliance.holds.lookup(flowOf(1));
    assert.deepEqual([entry?.readUInt16LE(24), entry?.[26]], [7, 2], "slot and state of the flipped hold");

    appliance.arrive(frame({ flow: 1, number: 50 }));
    await until(() => appliance.seen.length === 51, "the packet behind");
    assert.ok(appliance.seen[50]?.direct);
    assert.deepEqual(
      appliance.queue.flows().map(({ packets }) => packets),
      [50],
      "the other flow is still held",
    );
    console.log(`50 packets released in ${tookUs.toFixed(0)} us`);
  },

  /** A flow is held and released again and again while its packets keep coming: none is lost, none overtakes. */
  async stream() {
    const appliance = new Appliance();
    run("tc qdisc add dev near root pfifo limit 20000");
    const rounds = 100;
    let next = 0;
    let packets = 0;
    const feed = (count: number) => {
      for (const _ of upTo(count)) appliance.arrive(frame({ flow: 1, number: next++ }, { size: 500 }));
    };
    for (const _ of upTo(rounds)) {
      appliance.hold(1);
      feed(20);
      const assigned = appliance.queue.assign(flowOf(1), 3, owner);
      let released = false;
      void assigned.then(() => {
        released = true;
      });
      for (let turn = 0; turn < 100 && !released; turn++) {
        feed(20);
        await new Promise((resolve) => setImmediate(resolve));
      }
      packets += (await assigned).packets;
      feed(20);
      // The switch to another way would come before this: here the ways are the same.
      appliance.queue.forget(flowOf(1));
      appliance.holds.delete(flowOf(1));
      feed(20);
      await until(() => appliance.seen.length === next, `all so far (${appliance.seen.length} of ${next})`);
    }
    assert.deepEqual(numbers(appliance.seen, 1), upTo(next));
    assert.equal(appliance.seen.filter((packet) => !packet.direct).length, packets);
    assert.equal(appliance.queue.stats().dropped, 0);
    assert.ok(packets > rounds * 20, "nothing came while a hold was flipped");
    console.log(`${packets} of ${next} packets came through the queue`);
  },

  /** A thousand flows in one call. */
  async batch() {
    const appliance = new Appliance();
    run("tc qdisc add dev near root pfifo limit 20000");
    const flows = upTo(1000);
    for (const flow of flows) appliance.hold(flow);
    for (const number of upTo(3)) {
      for (const flow of flows) appliance.arrive(frame({ flow, number }));
      await sleep(5);
    }
    await until(() => appliance.queue.stats().packets === 3000, "3000 packets in the queue");
    await until(() => appliance.held.length === 1000, "1000 flows told of");
    const items = flows.map((flow) => ({ flow: flowOf(flow), slot: 1 + (flow % 2), mac: flow % 2 ? heir : owner }));
    const started = binding.monotonicNs();
    const results = await appliance.queue.assignBatch(items);
    const tookUs = Number(binding.monotonicNs() - started) / 1000;
    assert.deepEqual(
      results.map(({ packets }) => packets),
      flows.map(() => 3),
    );
    await until(() => appliance.seen.length === 3000, "3000 packets sent");
    for (const flow of flows) assert.deepEqual(numbers(appliance.seen, flow), [0, 1, 2]);
    for (const packet of appliance.seen)
      assert.equal(packet.destination, (packet.flow % 2 ? heir : owner).toString("hex"));
    assert.deepEqual(await appliance.queue.assignBatch([]), []);
    console.log(`1000 flows, 3000 packets released in ${tookUs.toFixed(0)} us`);
  },

  /** Bounds: what is too much is dropped and counted, and the hold still ends. */
  async bounds() {
    const appliance = new Appliance({ maxPackets: 10, maxBytes: 2000 });
    appliance.hold(1);
    appliance.hold(2);
    for (const number of upTo(15)) appliance.arrive(frame({ flow: 1, number }, { size: 100 }));
    await until(() => appliance.queue.stats().dropped === 5, "five over the flow's bound");
    for (const number of upTo(3)) appliance.arrive(frame({ flow: 2, number }, { size: 900 }));
    await until(() => appliance.queue.stats().dropped === 7, "two over the bound in bytes");
    assert.deepEqual(appliance.queue.stats(), { packets: 11, bytes: 1900, flows: 2, dropped: 7, sent: 0 });
    assert.equal((await appliance.queue.assign(flowOf(1), 1, owner)).packets, 10);
    assert.equal((await appliance.queue.assign(flowOf(2), 1, owner)).packets, 1);
    await until(() => appliance.seen.length === 11, "what was kept");
    assert.deepEqual(numbers(appliance.seen, 1), upTo(10));
    assert.deepEqual(numbers(appliance.seen, 2), [0]);
    assert.deepEqual(appliance.queue.stats(), { packets: 0, bytes: 0, flows: 2, dropped: 7, sent: 11 });
  },

  /** Tickets whose records are lost (a full ring, a predecessor that died) do not hold a flow for ever. */
  async lost() {
    const appliance = new Appliance();
    appliance.hold(1, 5);
    appliance.arrive(frame({ flow: 1, number: 0 }));
    await until(() => appliance.queue.stats().packets === 1, "the sixth ticket's packet");
    assert.equal((await appliance.queue.assign(flowOf(1), 1, owner)).packets, 1);
    assert.equal(appliance.queue.stats().dropped, 5);

    appliance.hold(2, 3);
    const nothing = await appliance.queue.assign(flowOf(2), 1, owner);
    assert.deepEqual(nothing, { packets: 0, heldUs: 0 });
    assert.equal(appliance.holds.lookup(flowOf(2))?.[26], 2);

    // No hold at all: nothing to wait for either.
    assert.deepEqual(await appliance.queue.assign(flowOf(3), 1, owner), { packets: 0, heldUs: 0 });
  },

  /** After the flip a straggler follows, until the flow is forgotten; a new hold counts from the start. */
  async stragglers() {
    const appliance = new Appliance();
    appliance.hold(1);
    appliance.arrive(frame({ flow: 1, number: 0 }));
    await until(() => appliance.queue.stats().packets === 1, "one held");
    await appliance.queue.assign(flowOf(1), 1, owner);
    // As if XDP had written it late: held although the hold was flipped.
    appliance.hold(1, 1);
    appliance.arrive(frame({ flow: 1, number: 1 }));
    await until(() => appliance.seen.length === 2, "the straggler");
    assert.deepEqual(
      appliance.seen.map(({ number, direct }) => [number, direct]),
      [
        [0, false],
        [1, false],
      ],
    );

    appliance.holds.delete(flowOf(1));
    appliance.queue.forget(flowOf(1));
    appliance.hold(1);
    appliance.arrive(frame({ flow: 1, number: 2 }));
    await until(() => appliance.queue.stats().packets === 1, "held again");
    assert.equal(appliance.seen.length, 2);
    await until(() => appliance.held.length === 2, "told of again");
    assert.equal((await appliance.queue.assign(flowOf(1), 2, heir)).packets, 1);
    await until(() => appliance.seen.length === 3, "released again");
    assert.equal(appliance.seen[2]?.destination, heir.toString("hex"));
    assert.equal(appliance.queue.stats().dropped, 0);
  },

  async drop() {
    const appliance = new Appliance();
    appliance.hold(1);
    for (const number of upTo(4)) appliance.arrive(frame({ flow: 1, number }));
    await until(() => appliance.queue.stats().packets === 4, "four held");
    assert.equal(appliance.queue.drop(flowOf(1)), 4);
    assert.equal(appliance.queue.drop(flowOf(1)), 0);
    assert.equal(appliance.holds.lookup(flowOf(1)), undefined);
    assert.deepEqual(appliance.queue.stats(), { packets: 0, bytes: 0, flows: 0, dropped: 4, sent: 0 });
    assert.deepEqual(appliance.queue.flows(), []);
    await sleep(20);
    assert.equal(appliance.seen.length, 0);
  },

  /** A tagged frame keeps its tag; a bounced one is told of and not queued; a whole frame can be sent. */
  async frames() {
    const appliance = new Appliance();
    appliance.hold(1);
    appliance.arrive(frame({ flow: 1, number: 0 }, { vlan: 77, size: 1518 }));
    const bounced = frame({ flow: 1, number: 1, bounced: 9 });
    appliance.arrive(bounced);
    await until(() => appliance.bounced.length === 1, "the bounced packet");
    assert.deepEqual(appliance.bounced, [{ flow: flowOf(1), slot: 9, frame: bounced }]);
    await until(() => appliance.queue.stats().packets === 1, "the tagged packet");
    await appliance.queue.assign(flowOf(1), 1, owner);
    await until(() => appliance.seen.length === 1, "the tagged packet sent");
    assert.deepEqual([appliance.seen[0]?.vlan, appliance.seen[0]?.bytes.length], [77, 1518]);
    const own = frame({ flow: 5, number: 5 });
    appliance.queue.send(own);
    await until(() => appliance.seen.length === 2, "the own frame");
    assert.deepEqual(appliance.seen[1]?.bytes, own);
    failsWith("EINVAL", () => appliance.queue.send(Buffer.alloc(3)));
  },

  /** The interface goes down and comes back; or stays down: then the caller is told. */
  async interfaceDown() {
    const appliance = new Appliance();
    appliance.hold(1);
    appliance.hold(2);
    appliance.arrive(frame({ flow: 1, number: 0 }));
    appliance.arrive(frame({ flow: 2, number: 0 }));
    await until(() => appliance.queue.stats().packets === 2, "two held");
    run("ip link set near down");
    failsWith("ENETDOWN", () => appliance.queue.send(frame({ flow: 9, number: 9 })));
    const assigned = appliance.queue.assign(flowOf(1), 1, owner);
    await sleep(100);
    run("ip link set near up");
    assert.equal((await assigned).packets, 1);
    await until(() => appliance.seen.length === 1, "sent once it was up");

    run("ip link set near down");
    await assert.rejects(appliance.queue.assign(flowOf(2), 1, owner), (error) => code(error) === "ENETDOWN");
    assert.equal(appliance.queue.stats().packets, 1, "it is still held");
    const batch = [2, 3].map((flow) => ({ flow: flowOf(flow), slot: 1, mac: owner }));
    const [failed, nothing] = await appliance.queue.assignBatch(batch);
    assert.match(failed?.error ?? "", /^ENETDOWN: /);
    assert.deepEqual(nothing, { packets: 0, heldUs: 0 }, "an outcome of its own");
    const pending = appliance.queue.assign(flowOf(2), 1, owner);
    await assert.rejects(appliance.queue.assign(flowOf(2), 1, heir), (error) => code(error) === "EBUSY");
    appliance.queue.close();
    await assert.rejects(pending, (error) => code(error) === "ECANCELED");
    failsWith("EBADF", () => appliance.queue.flows());
  },
};

const scenario = scenarios[process.argv[2] ?? ""];
if (!scenario) throw new Error(`no such scenario: ${process.argv[2]}`);
makePins();
try {
  await scenario();
} finally {
  removePins();
}
