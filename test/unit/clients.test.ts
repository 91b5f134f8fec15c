import "../support/quiet.js";
import test, { type ExecutionContext } from "ava";
import { accept } from "../../agent/connection/acceptor.js";
import { Clients } from "../../agent/connection/clients.js";
import type { Identified } from "../../agent/connection/host.js";
import { guardFlag } from "../../bpf/guard_layout.js";
import { connectionId, type Flow, flowKey } from "../../proto/flow.js";
import { eventually } from "../support/eventually.js";
import { literalRecord, WorkerScene } from "../support/worker_scene.js";

const HALF_OPEN = "half-open connections";
let ports = 1024;

function one(address = "192.0.2.1", isHalfOpen = false): Identified & { isHalfOpen: boolean } {
  const { flow } = literalRecord(++ports);
  const of: Flow = { ...flow, client: { ...flow.client, address } };
  return { id: connectionId(of, 1), flow: of, isHalfOpen };
}

test("a client has so many connections, and another one as many", (t) => {
  const clients = new Clients({ connectionsPerClient: 2, halfOpenPerClient: 1 });
  const [first, second] = [one(), one()];
  for (const joined of [first, second, first]) clients.join(joined);
  t.true(clients.isFull(one()));
  t.false(clients.isFull(one("192.0.2.2")));
  clients.leave(first);
  t.false(clients.isFull(one()));
  clients.leave(one()); // was never there
  clients.leave(second);
  t.deepEqual(clients.turnedAway.entries, [["connections", 1]]);
});

test("a client of IPv6 is its network", (t) => {
  const clients = new Clients({ connectionsPerClient: 1, halfOpenPerClient: 1 });
  clients.join(one("2001:db8:0:1::1"));
  t.true(clients.isFull(one("2001:db8:0:1:ffff::2")));
  t.false(clients.isFull(one("2001:db8:0:2::1")));
});

test("half-open connections are counted while they are", (t) => {
  const said: object[] = [];
  const clients = new Clients({ connectionsPerClient: 9, halfOpenPerClient: 2 }, { warn: (what) => said.push(what) });
  const first = one("192.0.2.1", true);
  for (const joined of [first, one("192.0.2.1", true), one()]) clients.join(joined);
  for (let tries = 0; tries < 3; tries++) t.true(clients.isFullOfHalfOpen(one()));
  t.is(said.length, 1, "one speaks for all");
  t.false(clients.isFullOfHalfOpen(one("192.0.2.2")));
  first.isHalfOpen = false;
  t.false(clients.isFullOfHalfOpen(one()));
  clients.join(one("192.0.2.1", true));
  t.true(clients.isFullOfHalfOpen(one()));
  t.deepEqual(clients.turnedAway.entries, [[HALF_OPEN, 4]]);
});

/** A new connection comes to a worker that lets a client have two half-open ones, and five in all. */
function comes(scene: WorkerScene, role: "alone" | "related" = "alone"): Flow {
  const { flow, tcp } = literalRecord(++ports);
  scene.guard.install(flow, { ...tcp, phase: "LIVE", options: 0, sendNext: 2, sentAck: 1 });
  const service = { service: "app", protocol: "app", recorded: true, role };
  accept(scene.table, service, scene.native.prepare(), { local: flow.vip, remote: flow.client }, "bundle");
  return flow;
}

function flagsOf(scene: WorkerScene, flow: Flow): number {
  return scene.guard.entries.get(flowKey(flow))?.flags ?? 0;
}

test("one half-open connection too many is told so, and gets no record", async (t) => {
  let told = 0;
  const scene = new WorkerScene(t);
  scene.layer = { halfOpen: () => true, turnAway: () => void told++, begin: () => {} };
  for (let count = 0; count < 2; count++) comes(scene);
  t.is(told, 0);
  const flow = comes(scene);
  t.is(told, 1);
  t.truthy(flagsOf(scene, flow) & guardFlag.UNPROTECTED);
  t.deepEqual(scene.resets, []);
  await eventually("the others are recorded", () => scene.bucket.records.size === 2);
  t.false(scene.table.of(flow)?.identity.recorded);
});

test("it is reset where its protocol has no words for that", (t) => {
  const scene = new WorkerScene(t);
  scene.layer = { halfOpen: () => true };
  const flows = [comes(scene), comes(scene), comes(scene)];
  t.is(scene.resets.length, 1);
  t.is(scene.table.of(flows[2] as Flow), undefined);
  t.is(scene.table.size, 2);
});

function scenario(t: ExecutionContext): WorkerScene {
  const scene = new WorkerScene(t);
  for (let count = 0; count < 5; count++) comes(scene);
  return scene;
}

test("one connection too many is reset; one that its bundle waits for is none", (t) => {
  const scene = scenario(t);
  t.deepEqual(scene.resets, []);
  const flow = comes(scene);
  t.is(scene.resets.length, 1);
  t.truthy(flagsOf(scene, flow) & guardFlag.RST_ASKED);
  t.is(scene.table.size, 5);
  t.truthy(scene.table.of(comes(scene, "related")));
  t.deepEqual(scene.table.clients.turnedAway.entries, [["connections", 1]]);
  scene.table.abandon("over");
  t.truthy(scene.table.of(comes(scene)), "those that are gone count no more");
});

test("a related connection that comes before its bundle waits for it while bundles come", (t) => {
  const scene = new WorkerScene(t);
  const of = (port: number): Flow => ({ ...literalRecord(++ports).flow, vip: { address: "10.77.0.100", port } });
  const arrives = (flow: Flow) => {
    scene.guard.install(flow, { ...literalRecord().tcp, phase: "LIVE", options: 0, sendNext: 2, sentAck: 1 });
    const service = { service: "app", protocol: "app", recorded: true, role: "related" } as const;
    accept(scene.table, service, scene.native.prepare(), { local: flow.vip, remote: flow.client });
    return scene.table.of(flow);
  };
  const bundle = literalRecord(1).id;
  scene.table.early.begin();
  const [expected, unexpected] = [of(30_000), of(30_001)];
  t.is(arrives(expected), undefined);
  t.is(arrives(unexpected), undefined);
  t.deepEqual(scene.resets, []);
  scene.host.bundles.portOf(bundle).expect(30_000);
  scene.table.early.again();
  t.is(scene.table.of(expected)?.bundleId, bundle);
  t.deepEqual(scene.resets, []);
  scene.table.early.end();
  t.is(scene.table.of(unexpected), undefined);
  t.is(scene.resets.length, 1);
  arrives(of(30_002));
  t.is(scene.resets.length, 2, "no bundle comes any more");
});
