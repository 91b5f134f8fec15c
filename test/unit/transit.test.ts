import test from "ava";
import { Transit } from "../../agent/connection/transit.js";

test("idle at once, or in the very call that ends the last one, or not in time", async (t) => {
  const transit = new Transit();
  const called: string[] = [];
  t.true(await transit.idle(10, () => called.push("at once")));
  const [first, second] = [transit.begin(), transit.begin()];
  const idle = transit.idle(5_000, () => called.push(`idle with ${transit.size}`));
  first();
  t.deepEqual(called, ["at once"]);
  second();
  t.deepEqual(called, ["at once", "idle with 0"]);
  t.true(await idle);
  const ended = transit.begin();
  t.false(await transit.idle(5, () => called.push("late")));
  ended();
  t.is(called.length, 2, "who has given up is not called");
});

test("work is under way until it has ended, however it ends", async (t) => {
  const transit = new Transit();
  await t.throwsAsync(transit.track(Promise.reject(new Error("no"))), { message: "no" });
  t.is(await transit.track(Promise.resolve(7)), 7);
  t.is(transit.size, 0);
});
