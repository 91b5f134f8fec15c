/** Client ports below the ephemeral range, each handed out once a process; the start differs so that runs do not meet in TIME_WAIT. */
let next = 10_000 + Math.floor(Math.random() * 15_000);

export function freshPort(): number {
  return next++;
}
