import test from "ava";
import { TimestampClock } from "../../agent/restore/clock.js";
import { wallClockUs } from "../../proto/clock.js";
import { distance } from "../../proto/sequence.js";

test("it is ahead of the dead server's clock by the time that passed and a second", (t) => {
  const clock = new TimestampClock({ timestampClock: 0xffffff00, timestampUsec: false }, wallClockUs() - 5_000_000);
  const ahead = distance(0xffffff00, clock.now());
  t.true(ahead >= 6_000 && ahead < 6_200, String(ahead));
});

test("microsecond clocks go on in microseconds", (t) => {
  const clock = new TimestampClock({ timestampClock: 7, timestampUsec: true }, wallClockUs() - 1_000_000);
  const ahead = distance(7, clock.now());
  t.true(ahead >= 2_000_000 && ahead < 2_200_000, String(ahead));
});

test("it never stays behind what the client has seen", (t) => {
  const clock = new TimestampClock({ timestampClock: 1000, timestampUsec: false }, wallClockUs());
  clock.passed(500_000);
  t.true(distance(500_000, clock.now()) > 0);
  const before = clock.now();
  clock.passed(1);
  t.true(distance(before, clock.now()) >= 0);
});

test("a record from a host whose clock is ahead does not turn it back", (t) => {
  const clock = new TimestampClock({ timestampClock: 1000, timestampUsec: false }, wallClockUs() + 3_600_000_000);
  t.true(distance(1000, clock.now()) >= 1000);
});
