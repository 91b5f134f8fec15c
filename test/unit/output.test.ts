import { mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { Output } from "../../agent/connection/output.js";
import type { ObjectStream } from "../../agent/protocols/application.js";

function file(content: Buffer): { fd: number; size: number; closed: number; close(): void } {
  const folder = mkdtempSync(join(tmpdir(), "baton-output-"));
  writeFileSync(join(folder, "object"), content);
  const fd = openSync(join(folder, "object"), "r");
  rmSync(folder, { recursive: true });
  return {
    fd,
    size: content.length,
    closed: 0,
    close() {
      this.closed++;
    },
  };
}

const reference = (objectOffset: number, length: number) => ({
  objectId: "/object",
  validator: "v",
  objectOffset,
  length,
});

test("the promised stream is the same from every position", (t) => {
  const content = Buffer.from(Array.from({ length: 200 }, (_, i) => i));
  const source = file(content);
  const output = new Output(0);
  output.appendLiteral(Buffer.from("head1"));
  output.appendObject(reference(10, 100), source);
  output.appendLiteral(Buffer.from("head2"));
  output.appendObject(reference(0, 7), source);
  output.appendFin();
  const stream = Buffer.concat([
    Buffer.from("head1"),
    content.subarray(10, 110),
    Buffer.from("head2"),
    content.subarray(0, 7),
  ]);
  t.is(output.tail, stream.length + 1);
  t.is(output.finOffset, stream.length);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: stream.length }), (position) => {
      const bytes = output.from(position).map((piece) => {
        if ("literal" in piece) return piece.literal;
        return "fd" in piece ? content.subarray(piece.offset, piece.offset + piece.length) : Buffer.alloc(0);
      });
      t.deepEqual(Buffer.concat(bytes), stream.subarray(position));
      // The FIN has no byte.
      const floor = Math.min(position + 1, stream.length);
      t.deepEqual(output.floorAt(position + 1), { floor, byte: stream[floor - 1] });
    }),
  );
});

test("what is acknowledged goes, but the piece with the byte before stays", (t) => {
  const source = file(Buffer.from("0123456789"));
  const output = new Output(100);
  output.appendLiteral(Buffer.from("abc")); // 100..103
  output.appendObject(reference(0, 10), source); // 103..113
  output.appendLiteral(Buffer.from("xyz")); // 113..116
  output.trim(103);
  t.is(output.pieces.length, 3);
  t.deepEqual(output.floorAt(103), { floor: 103, byte: 99 });
  output.trim(104);
  t.is(output.pieces.length, 2);
  t.is(output.floorAt(103), undefined);
  t.is(source.closed, 0);
  output.trim(115);
  t.deepEqual(output.pieces, [{ offset: 113, literal: Buffer.from("xyz") }]);
  output.trim(116);
  t.deepEqual(output.pieces, [{ offset: 115, literal: Buffer.from("z") }], "of a literal one byte");
  t.is(source.closed, 1);
  t.is(output.tail, 116);
  t.deepEqual(output.floorAt(116), { floor: 116, byte: "z".charCodeAt(0) });
});

test("of what is fetched and not kept the floor is where a byte is known", (t) => {
  const known = new Map([
    [14, 4],
    [19, 9],
  ]);
  const stream = {
    known: (below: number) => {
      const position = Math.max(...[...known.keys()].filter((at) => at < below));
      return Number.isFinite(position) ? { position, byte: known.get(position)! } : undefined;
    },
    lost: new Promise<string>(() => {}),
    isDone: false,
  } as unknown as ObjectStream;
  const output = new Output(100);
  output.appendLiteral(Buffer.from("ab")); // 100..102
  output.appendObject(reference(12, 8), { fd: -1, close: () => {}, stream }); // 102..110, positions 12..20
  t.deepEqual(output.floorAt(102), { floor: 102, byte: "b".charCodeAt(0) });
  t.deepEqual(output.floorAt(104), { floor: 102, byte: "b".charCodeAt(0) });
  t.deepEqual(output.floorAt(105), { floor: 105, byte: 4 });
  t.deepEqual(output.floorAt(109), { floor: 105, byte: 4 });
  t.deepEqual(output.floorAt(110), { floor: 110, byte: 9 });
  known.set(5, 1); // in front of the piece
  known.delete(14);
  t.deepEqual(output.floorAt(104), { floor: 102, byte: "b".charCodeAt(0) });
});

test("a record with a gap in its output is not taken", (t) => {
  const output = new Output(10);
  t.throws(() => output.adopt({ offset: 11, literal: Buffer.from("x") }, undefined), { message: /gap/ });
});

test("nothing is promised behind the FIN", (t) => {
  const output = new Output(0);
  output.appendFin();
  t.throws(() => output.appendLiteral(Buffer.from("x")));
});
