import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecutionContext } from "ava";

/** A new directory that goes with the test. */
export function testDirectory(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), "baton-test-"));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
