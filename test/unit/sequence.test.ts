import test from "ava";
import fc from "fast-check";
import { add, before, distance, toOffset, toSequence } from "../../proto/sequence.js";

const LAST = 2 ** 32 - 1;
const sequence = fc.oneof(
  fc.integer({ min: 0, max: LAST }),
  fc.constantFrom(0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 31 + 1, LAST - 1, LAST),
);
const offset = fc.nat(2 ** 51);
const near = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });

test("around the end of the number space", (t) => {
  t.is(add(LAST, 1), 0);
  t.is(add(0, -1), LAST);
  t.is(add(5, 3 * 2 ** 32), 5);
  t.is(add(5, -3 * 2 ** 40 - 6), LAST);
  t.is(distance(LAST, 2), 3);
  t.is(distance(2, LAST), -3);
  t.true(before(LAST, 0));
  t.false(before(0, LAST));
  t.false(before(7, 7));
  t.is(toSequence(LAST, 0), 0);
  t.is(toSequence(100, 2 ** 32), 101);
  t.is(toOffset(100, 100, 0), -1, "the SYN lies before the stream");
  t.is(toOffset(100, 90, 2 ** 32), 2 ** 32 - 11);
});

test("adding and the distance are inverse", (t) => {
  fc.assert(fc.property(sequence, near, (from, delta) => distance(from, add(from, delta)) === delta));
  fc.assert(fc.property(sequence, sequence, (from, to) => add(from, distance(from, to)) === to));
  t.pass();
});

test("results are unsigned 32-bit numbers", (t) => {
  fc.assert(
    fc.property(sequence, fc.maxSafeInteger(), (from, delta) => {
      const result = add(from, delta);
      return Number.isInteger(result) && result >= 0 && result <= LAST && !Object.is(result, -0);
    }),
  );
  t.pass();
});

test("one comes before the other, never both", (t) => {
  fc.assert(
    fc.property(sequence, sequence, (a, b) => {
      if (a === b) return !before(a, b) && !before(b, a);
      if (distance(a, b) === -(2 ** 31)) return !before(a, b) && !before(b, a); // opposite: no order
      return before(a, b) !== before(b, a);
    }),
  );
  t.pass();
});

test("an offset survives the way through 32 bits when its neighbourhood is known", (t) => {
  fc.assert(
    fc.property(sequence, offset, near, (isn, position, delta) => {
      const known = position - delta;
      return toOffset(isn, toSequence(isn, position), known) === position;
    }),
  );
  t.pass();
});
