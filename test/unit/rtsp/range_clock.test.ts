import { setTimeout as delay } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { RangeClock } from "../../../agent/protocols/rtsp/range_clock.js";
import { wallClockUs } from "../../../proto/clock.js";

const S = 1_000_000;
/** Above what a busy machine may take from one line to the next. */
const SLACK_US = 400_000;

/** Somebody sets the wall clock. */
function setWallClock(t: ExecutionContext, byMs: number): void {
  const { now } = Date;
  Date.now = () => now() + byMs;
  t.teardown(() => {
    Date.now = now;
  });
}

for (const step of [-3_600_000, 3_600_000]) {
  test.serial(`a range goes on at its pace when the clock is set by ${step / 1_000} s`, async (t) => {
    const clock = new RangeClock(wallClockUs());
    const before = clock.elapsedUs;
    setWallClock(t, step);
    await delay(50);
    const passed = clock.elapsedUs - before;
    t.true(passed >= 49_000 && passed < SLACK_US, `${passed} us`);
  });
}

const heirs = [
  { what: "what became due meanwhile is due", begun: -10.5, reached: 10, elapsed: 10.5 },
  { what: "a clock that is behind makes nobody wait", begun: -8, reached: 10, elapsed: 10 },
  { what: "a clock from before the range does neither", begun: 3_600, reached: 10, elapsed: 10 },
  { what: "what cannot be caught up with is sent later", begun: -70, reached: 10, elapsed: 12 },
];
for (const { what, begun, reached, elapsed } of heirs) {
  test.serial(`another server goes on: ${what}`, (t) => {
    const clock = new RangeClock(wallClockUs() + begun * S);
    clock.goOn(reached * S);
    const off = clock.elapsedUs - elapsed * S;
    t.true(off > -5_000 && off < SLACK_US, `${off} us`);
  });
}
