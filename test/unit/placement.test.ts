import test from "ava";
import { ConnectionIndex } from "../../controller/connections/index.js";
import type { Appliance, Member } from "../../controller/takeover/appliance.js";
import { Crowding } from "../../controller/takeover/crowding.js";
import { Placement } from "../../controller/takeover/placement.js";
import { connectionId, type Flow, flowKey } from "../../proto/flow.js";
import { encodeRecord } from "../../proto/record.js";
import { exampleRecord } from "../support/record.js";

const member = (slot: number): Member => ({ id: `s${slot}`, slot, generation: 1, mac: Buffer.alloc(6) });
const members = [member(1), member(2), member(3)];
const ids = (list: Member[]) => list.map(({ id }) => id);

/** Tables that are only remembered. */
function scene(hasRoom: (id: string) => boolean) {
  const index = new ConnectionIndex();
  const tables: { main: Member[]; heirs: Member[] } = { main: [], heirs: [] };
  const exceptions = new Map<string, string>();
  const appliance = {
    setTables: (main: Member[], heirs: Member[]) => Object.assign(tables, { main, heirs }),
    putExceptions: (items: Array<{ flow: Flow; member: Member }>) => {
      for (const { flow, member: owner } of items) exceptions.set(flowKey(flow), owner.id);
    },
    removeExceptions: (flows: Flow[]) => {
      for (const flow of flows) exceptions.delete(flowKey(flow));
    },
  } as Partial<Appliance> as Appliance;
  const placement = new Placement(
    appliance,
    index,
    ({ serverId }) => members.find((one) => one.id === serverId),
    hasRoom,
  );
  return { index, tables, exceptions, placement };
}

test("a server is crowded from 95 % of its table on, until below 90 %", (t) => {
  const crowding = new Crowding();
  const changes = [0.94, 0.95, 1, 0.9, 0.899, 0.94].map((used) => crowding.report("s1", used));
  t.deepEqual(changes, [false, true, false, false, true, false]);
  t.false(crowding.isCrowded("s1"));
  t.true(crowding.report("s2", 0.97));
  t.true(crowding.isCrowded("s2"));
  t.false(crowding.isCrowded("s1"));
});

test("a crowded server gets no new flows, keeps its own, and is heir as before", (t) => {
  const crowding = new Crowding();
  const { index, tables, exceptions, placement } = scene((id) => !crowding.isCrowded(id));
  placement.change(members, members);
  for (let port = 1; port <= 60; port++) {
    const record = exampleRecord();
    const flow = { ...record.flow, client: { ...record.flow.client, port } };
    const id = connectionId(flow, 1);
    const serverId = placement.homeOf(flow)!.id;
    index.apply(id, port, encodeRecord({ ...record, flow, id, serverId }));
  }
  const owned = [...index.entries("s1")];
  t.true(owned.length >= 5, "s1 has some of them");
  t.is(exceptions.size, 0);

  crowding.report("s1", 0.96);
  placement.change(members, members);
  t.deepEqual(ids(tables.main), ["s2", "s3"]);
  t.deepEqual(ids(tables.heirs), ["s1", "s2", "s3"]);
  for (const entry of owned) t.is(exceptions.get(entry.key), "s1");

  crowding.report("s1", 0.8);
  placement.change(members, members);
  t.deepEqual(ids(tables.main), ["s1", "s2", "s3"]);
  t.is(exceptions.size, 0);
});

test("where all are crowded each goes on as before", (t) => {
  const { tables, placement } = scene(() => false);
  placement.change(members, members);
  t.deepEqual(ids(tables.main), ["s1", "s2", "s3"]);
});
