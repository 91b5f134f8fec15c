import test from "ava";
import fc from "fast-check";
import { Output } from "../../agent/connection/output.js";
import { Reach } from "../../agent/connection/reach.js";

const GIB = 2 ** 30;
const nothing = { floor: 0, floorByte: Buffer.alloc(0) };
const object = (offset: number, length: number) => ({
  offset,
  object: { objectId: "o", validator: "v", objectOffset: 0, length },
});

test("what leaves is covered by a record, and never further past its floor than an ack can tell", (t) => {
  const reach = new Reach(nothing, 0);
  t.is(reach.limit, 0);
  t.true(reach.commit({ ...nothing, output: [object(0, 3 * GIB)] }));
  t.is(reach.covered, 3 * GIB);
  t.is(reach.limit, GIB / 2);
  t.false(reach.isSpent(GIB / 2 - 1));
  t.true(reach.isSpent(GIB / 2));
  t.false(reach.commit({ floor: GIB, floorByte: Buffer.of(1), output: [object(0, 3 * GIB)] }));
  t.is(reach.limit, 1.5 * GIB);
});

test("records may be acknowledged in any order, and acks come in any: nothing goes back", (t) => {
  const step = fc.record({
    record: fc.boolean(),
    floor: fc.nat(1_000),
    length: fc.integer({ min: 1, max: 1_000 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const reach = new Reach(nothing, 0);
      for (const { record, floor, length } of steps) {
        const before = [reach.floor, reach.told, reach.acknowledged, reach.covered, reach.limit];
        if (record) {
          const more = reach.commit({ floor, floorByte: Buffer.of(1), output: [object(floor, length)] });
          t.is(more, reach.covered > before[3]!);
        } else {
          t.is(reach.see(floor), floor > before[2]!);
          t.is(reach.tell(floor), floor > before[1]!);
        }
        const after = [reach.floor, reach.told, reach.acknowledged, reach.covered, reach.limit];
        t.true(after.every((offset, at) => offset >= before[at]!));
        t.true(reach.limit <= reach.covered);
      }
    }),
  );
});

test("a record's floor is the client's ack where its byte is known, and the last one's where not", (t) => {
  const reach = new Reach({ floor: 3, floorByte: Buffer.from("c") }, 3);
  const output = new Output(3);
  t.deepEqual(reach.nameFloor(output), { floor: 3, floorByte: Buffer.from("c") });
  output.appendLiteral(Buffer.from("defg"));
  output.appendFin();
  reach.see(5);
  t.deepEqual(reach.nameFloor(output), { floor: 5, floorByte: Buffer.from("e") });
  reach.see(8);
  t.deepEqual(reach.nameFloor(output), { floor: 7, floorByte: Buffer.from("g") }, "a FIN is no byte");
});

test("without records all that is promised may leave", (t) => {
  const reach = new Reach(nothing, 0);
  reach.see(GIB);
  reach.commitUnrecorded(2 * GIB);
  t.is(reach.floor, GIB);
  t.is(reach.covered, 2 * GIB);
});

test("another socket goes on where the client is, whatever was known before", (t) => {
  const reach = new Reach(nothing, 100);
  reach.see(90);
  reach.tell(90);
  reach.resume(40, 60);
  t.deepEqual([reach.acknowledged, reach.told, reach.covered], [40, 40, 60]);
  t.true(reach.see(41));
});
