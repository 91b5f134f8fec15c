import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import { root } from "../../proto/paths.js";

/** One figure of a benchmark. `bar` is what it has to reach, `atMost` or `atLeast` of the same unit. */
export interface Measure {
  what: string;
  value: number;
  unit: string;
  atMost?: number;
  atLeast?: number;
}

export interface Report {
  name: string;
  measures: Measure[];
  /** Everything measured, so that other figures can be made of it later. */
  raw: unknown;
}

function reached({ value, atMost, atLeast }: Measure): boolean | undefined {
  if (atMost !== undefined) return value <= atMost;
  if (atLeast !== undefined) return value >= atLeast;
  return undefined;
}

/** Keeps a report as JSON in test/bench/results/ and prints it as a table. @returns whether every bar was reached */
export function publish(report: Report): boolean {
  const directory = join(root, "test/bench/results");
  mkdirSync(directory, { recursive: true });
  const commit = execFileSync("git", ["-C", root, "rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
  const where = {
    kernel: release(),
    cpus: cpus().length,
    cpu: cpus()[0]?.model,
    memoryMb: Math.round(totalmem() / 2 ** 20),
  };
  const kept = { date: new Date().toISOString(), commit, machine: where, ...report };
  writeFileSync(join(directory, `${report.name}.json`), `${JSON.stringify(kept, null, 2)}\n`);

  console.log(`\n${report.name}`);
  for (const measure of report.measures) {
    const ok = reached(measure);
    const bar =
      measure.atMost !== undefined
        ? `<= ${measure.atMost}`
        : measure.atLeast !== undefined
          ? `>= ${measure.atLeast}`
          : "";
    const verdict = ok === undefined ? "" : ok ? "ok" : "NOT REACHED";
    const value = Number.isInteger(measure.value) ? String(measure.value) : measure.value.toPrecision(4);
    console.log(
      `  ${measure.what.padEnd(58)} ${value.padStart(9)} ${measure.unit.padEnd(6)} ${bar.padEnd(9)} ${verdict}`,
    );
  }
  return report.measures.every((measure) => reached(measure) !== false);
}

/** The q-th quantile by the nearest-rank method; q from 0 to 1. */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)]!;
}
