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

/**
 * Established IPv4 flows: the most that one packet may cost, by the number of flows, as a multiple of the floor. The bars are
 * 75, 125 and 240 ns on a machine whose floor is 11 ns (12 ns for the last); harness included in all of them.
 */
const BARS: ReadonlyArray<readonly [flows: number, atMost: number]> = [
  [1, 75 / 11],
  [16_384, 125 / 11],
  [131_072, 240 / 12],
];
/** IPv6 beside IPv4, established flows. */
const IPV6_RATIO = 1.25;

/** What steering one packet costs, beside a program that only swaps the addresses. No lab: packets are run through it. */
export async function steer(): Promise<Report> {
  const built = (path: string) => join(root, "build", path);
  const { stdout } = await run(built("bench/bench"), [built("bench"), built("bpf/steer.bpf.o")], { timeout: 300_000 });
  const lines: Line[] = JSON.parse(stdout);
  const measures: Measure[] = [];
  for (const { name, flows, medianNs } of lines) {
    measures.push({ what: `${name}, ${flows} ${flows === 1 ? "flow" : "flows"}`, value: medianNs, unit: "ns" });
  }
  for (const [flows, atMost] of BARS) {
    const of = (name: string) =>
      lines.find((line) => line.name === name && line.flows === flows)?.medianNs ?? Number.NaN;
    const value = of("established IPv4") / of("floor");
    measures.push({ what: `established IPv4 / floor, ${flows} flows`, value, unit: "", atMost });
    const ipv6 = of("established IPv6") / of("established IPv4");
    measures.push({ what: `established, IPv6 / IPv4, ${flows} flows`, value: ipv6, unit: "", atMost: IPV6_RATIO });
  }
  return { name: "steer", measures, raw: lines };
}
