import "../support/quiet.js";
import test from "ava";
import { ConnectionIndex } from "../../controller/connections/index.js";
import { Relations } from "../../controller/relations/index.js";
import { BatonError } from "../../proto/errors.js";
import { connectionId, type Flow, flowText } from "../../proto/flow.js";
import { encodeRecord } from "../../proto/record.js";
import type { Relation } from "../../proto/rpc/index.js";
import { exampleRecord } from "../support/record.js";

type Control = { clientPort: number; vipPort: number; clientIsn: number };

/** A packet path that only remembers. */
class FakeTable {
  readonly flows = new Map<string, { flow: Flow; control: Control }>();
  room = 1_000;

  relate(flow: Flow, control: Control): void {
    if (this.flows.size >= this.room) throw new BatonError("LIMIT_REACHED", "the table is full");
    this.flows.set(flowText(flow), { flow, control });
  }
  unrelate(flow: Flow): void {
    this.flows.delete(flowText(flow));
  }
  relations() {
    return [...this.flows.values()];
  }
}

const PORTS = { from: 30_000, to: 30_099 };

function scene(table = new FakeTable()) {
  const index = new ConnectionIndex();
  const confirmed: string[] = [];
  const relations = new Relations({
    table,
    index,
    confirm: ({ id }) => void confirmed.push(id),
    isRelatedPort: (port) => port >= PORTS.from && port <= PORTS.to,
  });
  let revision = 0;
  /** A control connection's record as the store has it. */
  const control = (port: number, owner = "s1", changes: { bundleId?: string; address?: string } = {}): string => {
    const { address = "10.77.0.10", ...rest } = changes;
    const flow: Flow = { ...exampleRecord().flow, client: { address, port } };
    const id = connectionId(flow, 7);
    index.apply(id, ++revision, encodeRecord({ ...exampleRecord(), id, flow, serverId: owner, bundleId: id, ...rest }));
    relations.seen(id);
    return id;
  };
  return { table, index, relations, control, confirmed };
}

const tcp = (vipPort: number, clientPort = 0): Relation => ({ transport: "TCP", vipPort, clientPort });
const udp = (vipPort: number, clientPort = 0): Relation => ({ transport: "UDP", vipPort, clientPort });

test("a relation is written as its control connection's, once", async (t) => {
  const { table, relations, control, confirmed } = scene();
  const id = control(1001);
  for (let i = 0; i < 2; i++) t.is(await relations.relate("s1", id, [tcp(30_000), udp(30_001, 5004)]), "");
  t.deepEqual(confirmed, [id, id], "where it is does not hang on a cache");
  t.is(relations.size, 2);
  t.deepEqual(
    [...table.flows],
    ["10.77.0.10:0 -> 10.77.0.100:30000 tcp", "10.77.0.10:5004 -> 10.77.0.100:30001 udp"].map((name) => [
      name,
      { flow: table.flows.get(name)!.flow, control: { clientPort: 1001, vipPort: 80, clientIsn: 7 } },
    ]),
  );
  relations.unrelate("s1", id, [tcp(30_000)]);
  t.deepEqual([...table.flows.keys()], ["10.77.0.10:5004 -> 10.77.0.100:30001 udp"]);
  relations.ended(id);
  t.is(table.flows.size, 0);
  t.is(relations.size, 0);
});

test("two bundles do not meet: all of a request are taken, or none", async (t) => {
  const { table, relations, control } = scene();
  const [one, two, elsewhere] = [control(1001), control(1002), control(1003, "s1", { address: "10.77.0.11" })];
  t.is(await relations.relate("s1", one, [tcp(30_000, 5000), udp(30_001)]), "");
  for (const [wanted, why] of [
    [tcp(30_000, 5000), "taken"],
    [tcp(30_000), "taken"], // any port would be that one as well
    [udp(30_001, 6000), "taken"],
    [udp(30_001), "taken"],
    [tcp(30_001), ""],
    [tcp(30_000, 5001), ""],
  ] as const) {
    t.is(await relations.relate("s1", two, [tcp(30_050), wanted]), why, JSON.stringify(wanted));
    t.is(table.flows.has("10.77.0.10:0 -> 10.77.0.100:30050 tcp"), why === "");
    relations.unrelate("s1", two, []);
  }
  t.is(await relations.relate("s1", elsewhere, [tcp(30_000, 5000), udp(30_001)]), "");
  relations.ended(one);
  t.is(await relations.relate("s1", two, [tcp(30_000), udp(30_001)]), "");
});

test("only the owner of a control connection relates, and only at ports that are for it", async (t) => {
  const { relations, control } = scene();
  const id = control(1001);
  const [plain, member] = [control(1002, "s1", { bundleId: "" }), control(1003, "s1", { bundleId: id })];
  t.is(await relations.relate("s2", id, [tcp(30_000)]), "another server owns the connection");
  t.is(await relations.relate("s1", id.replace(/7$/, "8"), [tcp(30_000)]), "no such connection");
  for (const other of [plain, member]) {
    t.is(await relations.relate("s1", other, [tcp(30_000)]), "not a control connection");
  }
  t.is(await relations.relate("s1", id, [tcp(80)]), "no such port");
  t.is(relations.size, 0);
});

test("who relates has just committed the record: it is waited for", async (t) => {
  const { relations, control } = scene();
  const id = connectionId({ ...exampleRecord().flow, client: { address: "10.77.0.10", port: 1001 } }, 7);
  const asked = relations.relate("s2", id, [tcp(30_000)]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  control(1001, "s1");
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.is(relations.size, 0);
  control(1001, "s2");
  t.is(await asked, "");
});

test("after a takeover the new owner asks again, and the old one cannot take anything back", async (t) => {
  const { table, relations, control } = scene();
  const id = control(1001, "s1");
  t.is(await relations.relate("s1", id, [tcp(30_000)]), "");
  control(1001, "s2");
  relations.unrelate("s1", id, []);
  t.is(table.flows.size, 1);
  t.is(await relations.relate("s2", id, [tcp(30_000)]), "");
  relations.unrelate("s2", id, []);
  t.is(table.flows.size, 0);
});

test("there is an end to what one connection may have, and to the table", async (t) => {
  const { table, relations, control } = scene();
  const [one, two] = [control(1001), control(1002)];
  const many = Array.from({ length: 64 }, (_, i) => tcp(30_000 + i));
  t.is(await relations.relate("s1", one, many), "");
  t.is(await relations.relate("s1", one, [tcp(30_080)]), "too many flows of one connection");
  table.room = 65;
  t.is(await relations.relate("s1", two, [tcp(30_080), tcp(30_081)]), "no room for more related flows");
  t.is(table.flows.size, 64);
  t.is(relations.size, 64);
});

test("what an earlier controller left stays, where its control connection is still known", async (t) => {
  const before = scene();
  const [one, two] = [before.control(1001), before.control(1002)];
  await before.relations.relate("s1", one, [tcp(30_000), udp(30_000)]);
  await before.relations.relate("s1", two, [tcp(30_001)]);

  const { table, relations, control } = scene(before.table);
  relations.adopt();
  control(1001);
  relations.dropOrphans();
  t.is(relations.size, 2);
  t.deepEqual([...table.flows.keys()].sort(), [
    "10.77.0.10:0 -> 10.77.0.100:30000 tcp",
    "10.77.0.10:0 -> 10.77.0.100:30000 udp",
  ]);
  t.is(await relations.relate("s1", control(1003), [tcp(30_000)]), "taken");
});
