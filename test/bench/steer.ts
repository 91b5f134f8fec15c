import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { root } from "../../proto/paths.js";
import type { Measure, Report } from "./report.js";

const run = promisify(execFile);

/** A line of test/bench/xdp/bench.c. */
interface Line {
  name: string;
  flows: number;
  medianNs: number;
  verdict: number;
}

/** Established IPv4 flows: the most that one packet may cost, by the number of flows; nanoseconds, harness included. */
const BARS_NS: Readonly<Record<number, number>> = { 1: 75, 16384: 125, 131072: 240 };
/** IPv6 beside IPv4, established flows. */
const IPV6_RATIO = 1.25;

/** What steering one packet costs, beside a program that only swaps the addresses. No lab: packets are run through it. */
export async function steer(): Promise<Report> {
  const built = (path: string) => join(root, "build", path);
  const { stdout } = await run(built("bench/bench"), [built("bench"), built("bpf/steer.bpf.o")], { timeout: 300_000 });
  const lines: Line[] = JSON.parse(stdout);
  const measures: Measure[] = [];
  for (const { name, flows, medianNs } of lines) {
    const bar = name === "established IPv4" ? BARS_NS[flows] : undefined;
    const what = `${name}, ${flows} ${flows === 1 ? "flow" : "flows"}`;
    measures.push({ what, value: medianNs, unit: "ns", ...(bar === undefined ? {} : { atMost: bar }) });
  }
  for (const flows of Object.keys(BARS_NS).map(Number)) {
    const of = (name: string) =>
      lines.find((line) => line.name === name && line.flows === flows)?.medianNs ?? Number.NaN;
    const value = of("established IPv6") / of("established IPv4");
    measures.push({ what: `established, IPv6 / IPv4, ${flows} flows`, value, unit: "", atMost: IPV6_RATIO });
  }
  return { name: "steer", measures, raw: lines };
}
