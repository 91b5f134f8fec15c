import test from "ava";
import type { BpfMap } from "../../../bpf/binding/index.js";
import { encodeException, encodeServer, flowKey, indexKey } from "../../../bpf/layout.js";
import { type SteerMaps, steerMaps, Tables } from "../../../controller/steering/tables.js";
import { exampleRecord } from "../../support/record.js";

/** Maps in memory, as an earlier controller has left them. */
function fakeMaps(left: Partial<Record<keyof SteerMaps, Array<[Buffer, Buffer]>>>): SteerMaps {
  const map = (entries: Array<[Buffer, Buffer]>) => {
    const values = new Map(entries.map(([key, value]) => [key.toString("latin1"), value]));
    return {
      entries: () => [...values].map(([key, value]) => [Buffer.from(key, "latin1"), value]),
      lookup: (key: Buffer) => values.get(key.toString("latin1")),
      update: (key: Buffer, value: Buffer) => void values.set(key.toString("latin1"), value),
      updateBatch: () => 0,
      delete: (key: Buffer) => values.delete(key.toString("latin1")),
    } as unknown as BpfMap;
  };
  return Object.fromEntries(steerMaps.map((name) => [name, map(left[name] ?? [])])) as SteerMaps;
}

const mac = Buffer.from([2, 0, 0, 0, 0, 7]);

test("a controller that starts knows the servers that the packet path has, and which flows are on the move", (t) => {
  const { flow } = exampleRecord();
  const other = { ...flow, client: { ...flow.client, port: 1 } };
  const tables = new Tables(
    fakeMaps({
      servers: [
        [indexKey(0), encodeServer({ mac: Buffer.alloc(6), state: "down", generation: 0 })],
        [indexKey(7), encodeServer({ mac, state: "draining", generation: 3 })],
      ],
      exceptions: [
        [flowKey(flow), encodeException({ slot: 7, generation: 3, hold: true })],
        [flowKey(other), encodeException({ slot: 7, generation: 3, hold: false })],
      ],
    }),
  );
  tables.adopt();
  t.deepEqual(tables.server(7), { mac, state: "draining", generation: 3 });
  t.is(tables.stateOf(7), "draining");
  t.deepEqual(tables.macOf(7), mac);
  t.is(tables.stateOf(1), "down");
  t.throws(() => tables.server(0), { code: "NOT_FOUND" });
  t.true(tables.isMoving(flowKey(flow)), "held for a migration");
  t.false(tables.isMoving(flowKey(other)), "it only lives elsewhere");
});
