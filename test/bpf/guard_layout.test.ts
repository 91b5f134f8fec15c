import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import {
  GUARD_CHANGE_BYTES,
  GUARD_EVENT_BYTES,
  GUARD_SWEEP_BYTES,
  GUARDED_BYTES,
  guardChangeLayout,
  guardEventLayout,
  guardEventType,
  guardedLayout,
  guardPhase,
  guardSweepLayout,
  LEASE_BYTES,
  leaseLayout,
  MAC_BYTES,
  macLayout,
  SERVICE_BYTES,
  serviceLayout,
} from "../../bpf/guard_layout.js";
import { guardVerdicts } from "../../bpf/vocabulary.js";
import { root } from "../../proto/paths.js";

/** What the compiler laid out, against what TypeScript believes. */

interface BtfType {
  kind: string;
  name: string;
  size?: number;
  members?: Array<{ name: string; bits_offset: number }>;
}

const structures: Array<[string, Record<string, number>, number]> = [
  ["baton_guarded", guardedLayout, GUARDED_BYTES],
  ["baton_guard_change", guardChangeLayout, GUARD_CHANGE_BYTES],
  ["baton_guard_event", guardEventLayout, GUARD_EVENT_BYTES],
  ["baton_guard_sweep", guardSweepLayout, GUARD_SWEEP_BYTES],
  ["baton_lease", leaseLayout, LEASE_BYTES],
  ["baton_service", serviceLayout, SERVICE_BYTES],
  ["baton_mac", macLayout, MAC_BYTES],
];

/** BTF of the structures as clang lays them out for the BPF target, one variable of each. */
function compile(): BtfType[] {
  const folder = mkdtempSync(join(tmpdir(), "baton-layout-"));
  try {
    const object = join(folder, "layout.o");
    const source = [
      "#include <linux/bpf.h>",
      '#include "shared.h"',
      ...structures.map(([name], i) => `struct ${name} v${i};`),
    ];
    const include = [`-I/usr/include/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`, `-I${root}/bpf`];
    const clang = ["-g", "-O2", "-target", "bpf", ...include, "-xc", "-", "-c", "-o", object];
    execFileSync("clang-19", clang, { input: `${source.join("\n")}\n` });
    return JSON.parse(execFileSync("bpftool", ["-j", "btf", "dump", "file", object], { encoding: "utf8" })).types;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const types = compile();

for (const [name, layout, bytes] of structures) {
  test(`struct ${name} lies as guard_layout.ts says`, (t) => {
    const found = types.find((type) => type.kind === "STRUCT" && type.name === name);
    t.truthy(found);
    t.is(found!.size, bytes);
    t.deepEqual(Object.fromEntries(found!.members!.map((member) => [member.name, member.bits_offset / 8])), {
      ...layout,
    });
  });
}

/** The members of an enum as the header numbers them, without their prefix. */
function enumOf(header: string, prefix: string): Record<string, number> {
  const text = readFileSync(join(root, "bpf", header), "utf8");
  const members = [...text.matchAll(new RegExp(`^\\t${prefix}(\\w+) = (\\d+),`, "gm"))];
  return Object.fromEntries(members.map(([, name, number]) => [name, Number(number)]));
}

test("phases, events and verdicts have the numbers of the headers", (t) => {
  t.deepEqual(enumOf("shared.h", "BATON_GUARD_"), { ...guardPhase });
  t.deepEqual(enumOf("shared.h", "BATON_EVENT_"), { ...guardEventType });
  t.deepEqual(
    Object.keys(enumOf("verdict.h", "BATON_GUARD_")).map((name) => name.toLowerCase()),
    [...guardVerdicts],
  );
});
