import "../support/quiet.js";
import test from "ava";
import { ConnectionIndex, connectionDetail, connectionRows, recordedId } from "../../controller/connections/index.js";
import { connectionId, type Flow } from "../../proto/flow.js";
import { type ConnectionRecord, encodeRecord } from "../../proto/record.js";
import type { LiveConnection } from "../../proto/rpc/index.js";
import { encodeHttpSection, encodeIpSection, encodeTcpSection } from "../../proto/sections.js";
import { exampleRecord } from "../support/record.js";

const base = exampleRecord();

function record(port: number, changes: Partial<ConnectionRecord> = {}, isn = 1): ConnectionRecord {
  const flow: Flow = { ...base.flow, client: { address: "10.77.0.10", port } };
  return { ...base, id: connectionId(flow, isn), flow, ...changes };
}

function put(index: ConnectionIndex, value: ConnectionRecord, revision = 1) {
  return index.apply(value.id, revision, encodeRecord(value));
}

test("connections are found by id, flow and owner, through changes and removals", (t) => {
  const index = new ConnectionIndex();
  const one = record(1001);
  const two = record(1002, { serverId: "s2", incarnation: 5 });
  t.is(put(index, one).previous, undefined);
  put(index, two);
  t.is(index.size, 2);
  t.is(index.count("s1"), 1);
  t.is(index.count("s1", 3), 1);
  t.is(index.count("s1", 4), 0);

  const change = put(index, { ...one, serverId: "s2", incarnation: 5, epoch: 2 }, 2);
  t.is(change.previous?.serverId, "s1");
  t.is(change.entry.serverId, "s2");
  t.is(index.count("s1"), 0);
  t.deepEqual(index.owners(), [{ server: "s2", incarnation: 5, connections: 2 }]);
  t.deepEqual([...index.entries("s2", 5)].map(({ id }) => id).sort(), [one.id, two.id]);
  t.is(index.get(one.id)?.revision, 2);
  t.is(index.ofFlow(one.flow)?.record().epoch, 2);

  t.is(index.removed(one.id)?.record().epoch, 2);
  t.is(index.removed(one.id), undefined);
  t.is(index.ofFlow(one.flow), undefined);
  t.is(index.size, 1);
  index.removed(two.id);
  t.deepEqual(index.owners(), []);
});

test("of two connections with one 5-tuple the later one answers for the flow", (t) => {
  const index = new ConnectionIndex();
  const late = record(1001, { bornAtUs: base.bornAtUs + 10 }, 2);
  const early = record(1001, {}, 1);
  put(index, late);
  put(index, early);
  t.is(index.size, 2);
  t.is(index.ofFlow(early.flow)?.id, late.id);
  index.removed(early.id);
  t.is(index.ofFlow(early.flow)?.id, late.id);
});

test("what cannot be read is not kept, nor what it replaces", (t) => {
  const index = new ConnectionIndex();
  const one = record(1001);
  put(index, one);
  t.throws(() => index.apply(one.id, 2, Buffer.from([0xff])), { code: "RECORD_INVALID" });
  t.is(index.size, 0);
  t.is(index.count("s1"), 0);
});

const rowOf = (...of: Parameters<typeof connectionRows>) => connectionRows(...of)[0]!;

const live: LiveConnection = {
  id: base.id,
  phase: "LIVE",
  bytesSent: 1000,
  bytesReceived: 601,
  clientSeq: 11,
  serverSeq: 12,
  object: "/big.bin",
  objectOffset: 700,
  firstByteSeq: 13,
  isProtected: true,
  reason: "",
  ageSeconds: 1,
  history: [{ timeUs: 1_790_000_000_000_001, what: "ready", layer: "tcp", detail: "" }],
  tcpState: 1,
  outstanding: 0,
};

test("a row shows the record, and what is live where that is known", (t) => {
  const index = new ConnectionIndex();
  const { entry } = put(index, { ...base, unprotectedReason: "digest pending" });
  const recorded = rowOf(entry);
  t.like(recorded, {
    id: base.id,
    client: "10.77.0.10:51234",
    vip: "10.77.0.100:80",
    transport: "tcp",
    protocol: "http",
    owner: "s1",
    epoch: 1,
    phase: "LIVE",
    bytesSent: 200,
    bytesReceived: 600,
    object: "/big.bin",
    offset: 0,
    protected: false,
    reason: "digest pending",
  });
  t.like(rowOf(entry, { connection: live }), { bytesSent: 1000, offset: 700, protected: true, reason: "" });
  t.is(rowOf(entry, { connection: live, phase: "HELD" }).phase, "HELD");
});

test("flows of a bundle without a record have rows of their own, made from its control connection's", (t) => {
  const index = new ConnectionIndex();
  const common = { transport: "udp" as const, vipPort: 30_000 };
  const flows = [
    { ...common, clientPort: 5004, name: "video rtp", bytes: 77 },
    { ...common, clientPort: 5006, clientAddress: "239.1.2.3", name: "audio rtp", bytes: 0 },
  ];
  const { entry } = put(index, { ...base, bundleId: base.id, flows });
  const rows = connectionRows(entry, { connection: live, phase: "HELD" });
  t.is(rows.length, 3);
  t.like(rows[0], { id: base.id, bundle: base.id, bytesSent: 1000 });
  t.deepEqual(
    rows.slice(1).map(({ id, client, vip, transport, owner, phase, bytesSent, bundle, object }) => ({
      ...{ id, client, vip, transport, owner, phase, bytesSent, bundle, object },
    })),
    [["5004", "10.77.0.10", 77, "video rtp"] as const, ["5006", "239.1.2.3", 0, "audio rtp"] as const].map(
      ([port, address, bytesSent, object]) => ({
        id: `${base.id}/udp/30000/${port}`,
        client: `${address}:${port}`,
        vip: "10.77.0.100:30000",
        ...{ transport: "udp", owner: "s1", phase: "HELD", bytesSent, bundle: base.id, object },
      }),
    ),
  );
  t.deepEqual(
    rows.map(({ id }) => recordedId(id)),
    [base.id, base.id, base.id],
  );
});

test("the position in the object is counted from where the object begins", (t) => {
  const index = new ConnectionIndex();
  const { entry } = put(index, { ...base, floor: 1_000_300, floorByte: Buffer.from("x") });
  t.like(rowOf(entry), { object: "/big.bin", offset: 1_000_000 });
});

test("a connection's details come from the record, layer by layer, and its history from the servers in order", (t) => {
  const index = new ConnectionIndex();
  const response = {
    requestHead: Buffer.from("GET /big.bin HTTP/1.1\r\n\r\n"),
    responseHead: Buffer.alloc(300, "h"),
    objectId: "/big.bin",
    validator: "sha256:x",
    firstByteSeq: 295,
    firstByteOffset: 300,
    objectOffset: 0,
    length: 5_000_000_000,
    keepAlive: true,
  };
  const layers = [
    encodeIpSection({ ttl: 64, dscp: 0 }),
    encodeTcpSection(base.tcp),
    encodeHttpSection({ requests: 1, begun: false, unkept: Buffer.alloc(0), current: response, queued: [] }),
  ];
  const { entry } = put(index, { ...base, layers });
  const detail = connectionDetail(entry, {}, [
    { server: "s2", history: live.history },
    { server: "s1", history: [{ timeUs: 1_790_000_000_000_000, what: "born", layer: "", detail: "" }] },
  ]);
  t.deepEqual(detail.initialSeq, { client: 2886723411, server: 4294967290 });
  t.deepEqual(detail.currentSeq, { client: 2886724012, server: 195 });
  t.is(detail.firstByteSeq, 295);
  t.is(detail.serverId, "s1");
  t.is(detail.takenAt, "2026-09-21T14:13:20.123456Z");
  t.deepEqual(
    detail.layers.map(({ layer }) => layer),
    ["ip", "tcp", "http"],
  );
  t.is(JSON.parse(detail.layers[2]?.stateJson ?? "").objectId, "/big.bin");
  t.deepEqual(
    detail.history.map(({ server, what }) => `${server} ${what}`),
    ["s1 born", "s2 ready"],
  );
  const now = connectionDetail(entry, { connection: live });
  t.deepEqual(now.currentSeq, { client: 11, server: 12 });
  t.is(now.firstByteSeq, 13);
});

test("100,000 connections fit", (t) => {
  const index = new ConnectionIndex();
  const before = process.memoryUsage();
  const began = performance.now();
  for (let i = 0; i < 100_000; i++) {
    const flow: Flow = { ...base.flow, client: { address: `10.${i >> 14}.0.10`, port: 1024 + (i & 16383) } };
    put(index, { ...base, id: connectionId(flow, i), flow });
  }
  const after = process.memoryUsage();
  const mebibytes = (after.rss - before.rss) / 2 ** 20;
  t.log(`${mebibytes.toFixed(0)} MiB, ${((performance.now() - began) * 10).toFixed(0)} ns each`);
  t.is(index.size, 100_000);
  t.true(mebibytes < 400);
});
