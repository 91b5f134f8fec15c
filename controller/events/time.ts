/** ISO 8601 in UTC with microseconds: `2026-11-22T10:20:30.123456Z`. Sorts as text. */
export function isoTime(us: number): string {
  const micros = String(Math.floor(us) % 1000).padStart(3, "0");
  return new Date(Math.floor(us / 1000)).toISOString().replace("Z", `${micros}Z`);
}
