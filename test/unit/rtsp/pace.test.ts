import test from "ava";
import { Pace, UNTIL_WOKEN } from "../../../agent/protocols/rtsp/pace.js";
import { eventually } from "../../support/eventually.js";

test("who waits to be woken goes on then, and not before", async (t) => {
  let steps = 0;
  const pace = new Pace(async () => {
    steps++;
    return UNTIL_WOKEN;
  });
  pace.start(0);
  await eventually("the first step", () => steps === 1);
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.is(steps, 1);
  pace.wake();
  await eventually("the second", () => steps === 2);
  await pace.stop();
  pace.wake();
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.is(steps, 2);
});

test("what wakes it in the middle of a step is not lost", async (t) => {
  let steps = 0;
  const pace: Pace = new Pace(async () => {
    if (++steps === 1) pace.wake();
    return UNTIL_WOKEN;
  });
  pace.start(0);
  await eventually("the second step", () => steps === 2);
  await pace.stop();
  t.pass();
});
