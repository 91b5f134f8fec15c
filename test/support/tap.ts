/** What one line of TAP output says. ava speaks TAP 13 with YAML blocks behind failures, which are shown as they are. */
export type TapLine =
  | { kind: "passed" | "failed"; title: string }
  | { kind: "skipped"; title: string; why: string }
  | { kind: "other"; text: string };

/**
 * A skipped test says why in its title, behind a colon: `test.skip("move: not built yet", ...)`. A `todo` is a test that
 * nobody wrote, and counts as skipped.
 */
export function parseTapLine(line: string): TapLine {
  const found = /^(not ok|ok) \d+ - (.*?)(?: # (SKIP|TODO)\b.*)?$/.exec(line);
  if (!found) return { kind: "other", text: line };
  const [, verdict, title = "", mark] = found;
  if (mark) {
    const colon = title.lastIndexOf(": ");
    const why = mark === "TODO" ? "not written yet" : colon < 0 ? "no reason given" : title.slice(colon + 2);
    return { kind: "skipped", title, why };
  }
  return { kind: verdict === "ok" ? "passed" : "failed", title };
}

export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

/** The closing line that CI reads. */
export function closingLine(tally: Tally): string {
  return `${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped`;
}
