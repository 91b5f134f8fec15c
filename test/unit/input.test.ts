import test from "ava";
import fc from "fast-check";
import { Input } from "../../agent/connection/input.js";

test("the spool is what was received and not used, whatever the chunks", (t) => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 20 })), fc.array(fc.nat(30)), (chunks, uses) => {
      const stream = Buffer.concat(chunks);
      const input = new Input(0, 0, false);
      let used = 0;
      chunks.forEach((chunk, i) => {
        input.receive(Buffer.from(chunk));
        used = Math.min(input.received, used + (uses[i] ?? 0));
        input.use(used);
        t.deepEqual(input.spool(), stream.subarray(used, input.received));
        t.is(input.waiting, input.received - used);
      });
    }),
  );
});

test("what is spilled is what was taken, and the rest is held, in any order of steps", (t) => {
  const step = fc.tuple(fc.constantFrom("receive", "take", "spill", "use"), fc.nat(50));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const input = new Input(0, 0, false);
      let stream = Buffer.alloc(0);
      for (const [what, amount] of steps) {
        if (what === "receive") {
          const chunk = Buffer.from(Array.from({ length: amount }, (_, at) => stream.length + at));
          stream = Buffer.concat([stream, chunk]);
          if (amount > 0) input.receive(chunk);
        } else if (what === "take") input.take(Math.min(input.received, input.taken + amount));
        else if (what === "use") input.use(Math.min(input.received, input.processed + amount));
        else {
          const { from, bytes } = input.spillable();
          const part = bytes.subarray(0, amount);
          t.deepEqual(part, stream.subarray(from, from + part.length));
          input.spill(from + part.length);
        }
        const heldFrom = Math.max(input.processed, input.spilled);
        t.deepEqual(input.spool(), stream.subarray(heldFrom));
        t.is(input.held, stream.length - heldFrom);
        t.is(input.untaken, stream.length - input.taken);
        t.true(input.spilled <= input.taken);
      }
    }),
  );
});

test("the client's FIN counts as one", (t) => {
  const input = new Input(0, 0, false);
  input.receive(Buffer.from("abc"));
  input.finish();
  t.is(input.consumed, 4);
  t.is(input.received, 3);
  const again = new Input(3, 4, true);
  t.is(again.received, 3);
  t.is(again.waiting, 0);
  t.true(again.ended);
});

test("input that was never received cannot be used", (t) => {
  const input = new Input(5, 10, false);
  t.throws(() => input.use(11));
  t.throws(() => input.use(4));
  t.throws(() => input.refill(Buffer.from("1234")), { message: /spool has 4 bytes, the record says 5/ });
});
