/** Unix time in microseconds. Finer than Date.now(), and never further than 2 ms from it, so that steps are followed. */
export function wallClockUs(): number {
  const precise = performance.timeOrigin + performance.now();
  const coarse = Date.now();
  return Math.round((Math.abs(precise - coarse) > 2 ? coarse : precise) * 1000);
}

/** CLOCK_MONOTONIC in nanoseconds, the clock of bpf_ktime_get_ns and of leases. */
export function monotonicNs(): bigint {
  return process.hrtime.bigint();
}
