import "../../support/quiet.js";
import test, { type ExecutionContext } from "ava";
import { asBundles } from "../../../controller/connections/index.js";
import type { NewEvent } from "../../../controller/events/log.js";
import { Drains, Migrations } from "../../../controller/migration/index.js";
import { Strays } from "../../../controller/takeover/strays.js";
import { connectionId, type Flow } from "../../../proto/flow.js";
import { encodeRecord } from "../../../proto/record.js";
import type { LiveConnection } from "../../../proto/rpc/index.js";
import { tcpFrame, udpFrame } from "../../bpf/guard/packet.js";
import { eventually } from "../../support/eventually.js";
import { exampleRecord } from "../../support/record.js";
import { World } from "./_world.js";

const up = (slot: number) => ({ slot, incarnation: 1, state: "UP" as const, returned: true });
const CLIENT = "10.77.0.10";
const VIP = "10.77.0.100";

function flowOf(port: number, vipPort = 80): Flow {
  return { client: { address: CLIENT, port }, vip: { address: VIP, port: vipPort }, transport: "tcp" };
}

/** A world with a control connection and two that are related to it, as their records say of another server's. */
function bundle(t: ExecutionContext) {
  const world = new World(t, { s1: up(1), s2: up(2), s3: up(3) });
  let revision = 0;
  const put = (flow: Flow, serverId: string, bundleId: string, id = connectionId(flow, 7)) => {
    world.index.apply(
      id,
      ++revision,
      encodeRecord({ ...exampleRecord(), id, flow, serverId, incarnation: 1, bundleId }),
    );
    return id;
  };
  const id = connectionId(flowOf(1001, 21), 7);
  const control = (serverId: string) => put(flowOf(1001, 21), serverId, id);
  const data = [put(flowOf(1002, 30_000), "s3", id), put(flowOf(1003, 30_000), "s3", id)] as const;
  return { world, put, control, id, data };
}

test("the owner of a related connection is its control connection's, as soon as that is known", (t) => {
  const { world, put, control, id, data } = bundle(t);
  const { index } = world;
  const owned = (server: string) => [...index.entries(server)].map((entry) => entry.id).sort();
  t.deepEqual(owned("s3"), [...data].sort());
  control("s1");
  t.deepEqual(owned("s1"), [id, ...data].sort());
  t.deepEqual(owned("s3"), []);
  t.deepEqual(index.owners(), [{ server: "s1", incarnation: 1, connections: 3 }]);
  control("s2");
  t.is(index.count("s1"), 0);
  t.is(index.count("s2", 1), 3, "one record moves all");
  put(flowOf(1002, 30_000), "s3", id);
  t.is(index.count("s2"), 3, "whatever its own says");
  t.deepEqual(
    index
      .related(id)
      .map((entry) => [entry.id, entry.serverId, entry.isRelated])
      .sort(),
    data.map((one) => [one, "s2", true]).sort(),
  );
  t.false(index.get(id)?.isRelated);
  t.is(index.get(data[0])?.flowHash, index.get(id)?.flowHash);

  index.removed(data[0]);
  t.is(index.count("s2"), 2);
  index.removed(id);
  t.deepEqual(index.owners(), [{ server: "s3", incarnation: 1, connections: 1 }]);
  index.removed(data[1]);
  t.deepEqual(index.owners(), []);
  t.deepEqual(index.related(id), []);
});

test("a control connection whose record cannot be read leads nobody", (t) => {
  const { world, control, id } = bundle(t);
  control("s1");
  t.throws(() => world.index.apply(id, 99, Buffer.from([0xff])));
  t.is(world.index.count("s1"), 0);
  t.is(world.index.count("s3"), 2);
});

test("related connections have no exceptions, whatever is said of them", (t) => {
  const { world, control, data } = bundle(t);
  const members = ["s1", "s2", "s3"].map((server) => world.memberOf(server)!);
  world.placement.change(members, members);
  const home = world.placement.homeOf(flowOf(1001, 21))!;
  const other = members.find((member) => member.id !== home.id)!;
  control(other.id);
  world.placement.change(members, members);
  t.deepEqual([...world.appliance.excepted.values()], [other.slot], "the control connection's alone");
  for (const id of data) {
    const flow = world.index.get(id)!.flow();
    world.placement.moved([{ flow, member: other }]);
    world.placement.settled(flow, other);
    world.placement.hold(flow, other, 1);
  }
  t.is(world.appliance.excepted.size, 1);
  control(home.id);
  world.placement.change(members, members);
  t.is(world.appliance.excepted.size, 0);
});

test("a takeover of a bundle: the control connection is pointed at the heir, each connection has its event", async (t) => {
  const { world, control, id, data } = bundle(t);
  control("s1");
  world.die("s1");
  await eventually("the announcement", () => world.takeover("s1.1") !== undefined);
  control("s2");
  const results = [id, ...data].map((one) => world.result(one, "s1"));
  await world.coordinator.takenOver("s2", 1, { batch: 1, takeoverId: "s1.1", results });
  t.deepEqual(world.appliance.assigned, ["s2"]);
  t.deepEqual([...world.appliance.excepted.values()], [2]);
  const events = world.events.filter(({ kind }) => kind === "takeover");
  t.deepEqual(
    events.map(({ connection, bundle: of, to, result, heldPackets }) => [connection, of, to, result, heldPackets]),
    [
      [id, id, "s2", "ok", 1],
      [data[0], id, "s2", "ok", 0],
      [data[1], id, "s2", "ok", 0],
    ],
  );
  world.events.length = 0;
  await world.coordinator.takenOver("s2", 1, {
    batch: 2,
    takeoverId: "s1.1",
    results: [{ ...world.result(data[0], "s1"), result: "gone" }],
  });
  t.false(world.appliance.said.includes("drop"), "nothing of it was held under its own name");
});

/** Migrations of that world in which every agent does as it is told. */
function migrationsOf({ world, control }: ReturnType<typeof bundle>) {
  const asked: string[] = [];
  const migrations: Migrations = new Migrations({
    appliance: world.appliance,
    placement: world.placement,
    index: world.index,
    events: {
      append: (event: NewEvent) => {
        world.events.push(event);
        return event;
      },
    } as never,
    sessions: {
      prepare: async (_server: string, { connectionId: id }: { connectionId: string }) => {
        asked.push(`prepare ${id}`);
        return { request: 1, ready: true, reason: "", elapsedUs: 1 };
      },
      send: (
        server: string,
        { freeze }: { freeze?: { migration: string; connectionId: string; target: string }; cancel?: unknown },
      ) => {
        if (!freeze) asked.push(`cancel at ${server}`);
        if (!freeze) return true;
        asked.push(`freeze ${freeze.connectionId}`);
        setImmediate(() => {
          control(freeze.target);
          migrations.reported(freeze.target, [{ ...world.result(freeze.connectionId, freeze.migration) }]);
        });
        return true;
      },
    } as never,
    memberOf: (server) => world.memberOf(server),
    ownerOf: ({ serverId }) => world.memberOf(serverId),
    serves: () => true,
    accepts: () => true,
  });
  return { asked, migrations };
}

test("whichever of its connections is to move, it is the bundle that moves", async (t) => {
  const scene = bundle(t);
  const { world, control, id, data } = scene;
  const { asked, migrations } = migrationsOf(scene);
  t.throws(() => migrations.plan(data[0], "s2"), { code: "UNSUPPORTED" });
  control("s1");
  t.like(migrations.plan(data[0], "s2"), { from: { id: "s1" }, to: { id: "s2" }, flow: flowOf(1001, 21) });
  const event = await migrations.move(data[0], "s2");
  t.deepEqual(asked, [`prepare ${id}`, `freeze ${id}`]);
  t.like(event, { connection: id, bundle: id, from: "s1", to: "s2", result: "ok", heldPackets: 1 });
  const told = world.events.map(({ connection, bundle: of, to, result, heldPackets }) => [
    connection,
    of,
    to,
    result,
    heldPackets,
  ]);
  t.deepEqual(told, [
    [data[0], id, "s2", "ok", 0],
    [data[1], id, "s2", "ok", 0],
    [id, id, "s2", "ok", 1],
  ]);
  t.deepEqual(world.events[0]?.phases, event.phases);
  t.is(world.index.count("s2"), 3);
});

test("a flow whose packets are held already is not moved, and its target lets go of it", async (t) => {
  const scene = bundle(t);
  const { world, control, id } = scene;
  const { asked, migrations } = migrationsOf(scene);
  control("s1");
  world.appliance.hold = () => {
    throw new Error("the flow is held already");
  };
  t.like(await migrations.move(id, "s2"), { result: "refused", reason: "the flow is held already", from: "s1" });
  t.deepEqual(asked, [`prepare ${id}`, "cancel at s2"]);
  t.notThrows(() => migrations.plan(id, "s2"), "it may be tried again");
});

test("a drain moves bundles, and counts connections", async (t) => {
  const scene = bundle(t);
  const { world, control, id } = scene;
  const { asked, migrations } = migrationsOf(scene);
  control("s1");
  const drains = new Drains({ index: world.index, migrations, targets: () => ["s2"] });
  let last: object = {};
  for await (const progress of drains.drain("s1", 5_000)) last = progress;
  t.deepEqual(last, { moved: 3, remaining: 0, finished: true, reasons: {} });
  t.deepEqual(asked, [`prepare ${id}`, `freeze ${id}`]);
});

test("what a bundle sends is weighed together", (t) => {
  const { world, control, id, data } = bundle(t);
  control("s1");
  const live = (one: string, bytesSent: number, isProtected = true): LiveConnection =>
    ({ id: one, phase: "LIVE", bytesSent, outstanding: bytesSent, isProtected }) as LiveConnection;
  const plain = live(world.record("s1", 1), 5);
  t.deepEqual(asBundles([plain, live(data[0], 100), live(id, 1), live(data[1], 20, false)], world.index), [
    plain,
    { ...live(id, 121, false) },
  ]);
  t.deepEqual(asBundles([live(data[0], 100)], world.index), []);
});

test("a frame of a related flow is sent to the owner of its control connection; what that one does not have is reset", async (t) => {
  const { world, put, control, id } = bundle(t);
  const strays = new Strays({
    appliance: world.appliance,
    placement: world.placement,
    index: world.index,
    ownerOf: ({ serverId }) => world.memberOf(serverId),
    memberOfSlot: (slot) => world.memberOf(`s${slot}`),
    seesRecords: () => true,
    serves: () => true,
    episodeOfSlot: () => undefined,
    adopt: () => Promise.reject(new Error("nobody adopts here")),
    adopted: async () => {},
  });
  const data = { from: { address: CLIENT, port: 1009 }, to: { address: VIP, port: 30_000 } };
  const frames = () => [tcpFrame({ ...data, seq: 1 }), udpFrame(data)];
  const bounce = (slot: number) => {
    for (const frame of frames()) strays.bounced([{ flow: flowOf(1001, 21), slot, frame }]);
  };
  bounce(1);
  t.like(strays.counters, { forwarded: 0, reset: 0, dropped: 2 }, "nobody knows the control connection");
  control("s2");
  bounce(1);
  t.like(strays.counters, { forwarded: 2, dropped: 2 });
  t.deepEqual(
    world.appliance.sent.map((frame) => frame[0]),
    [2, 2],
  );
  bounce(2);
  t.like(strays.counters, { forwarded: 2, reset: 0, dropped: 3 }, "the segment is in doubt");
  await eventually("the data connection is reset", () => strays.counters.reset === 1);
  t.is(world.appliance.told.length, 1);
  const [told] = world.appliance.told as [Buffer];
  t.deepEqual([told.readUInt16BE(20), told.readUInt16BE(22), told[33]], [30_000, 1009, 0x04], "RST to its port");
  put(flowOf(1009, 30_000), "s2", id);
  bounce(2);
  t.like(strays.counters, { forwarded: 2, dropped: 5 }, "it has a record");

  world.die("s1");
  const episode = { dead: world.memberOf("s1")!, survivors: [world.memberOf("s2")!], heirs: new Uint16Array(65537) };
  world.index.removed(id);
  world.appliance.assigned = [];
  const [first, last] = frames() as [Buffer, Buffer];
  world.appliance.holds = [{ flow: flowOf(1001, 21), packets: 3, first, last }];
  strays.look(episode as never);
  t.like(strays.counters, { adopted: 0, released: 0, dropped: 8 });
  t.true(world.appliance.said.includes("drop"));
  const syn = tcpFrame({ from: flowOf(1001).client, to: flowOf(1001, 21).vip, flags: 2 });
  world.appliance.holds = [{ flow: flowOf(1001, 21), packets: 2, first, last: syn }];
  strays.look(episode as never);
  t.deepEqual(world.appliance.assigned, ["s2"]);
});
