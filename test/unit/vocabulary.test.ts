import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { guardVerdicts, serverStates, steerVerdicts } from "../../bpf/vocabulary.js";
import { root } from "../../proto/paths.js";

/** Names of an enum in a header by number, without their prefix, in lower case. */
function enumOf(header: string, name: string, prefix: string): string[] {
  const text = readFileSync(join(root, "bpf", header), "utf8");
  const body = new RegExp(`enum ${name} \\{\\n([^}]*)\\n\\};`).exec(text)?.[1] ?? "";
  const members = [...body.matchAll(/^\t(\w+) = (\d+),?/gm)];
  const out: string[] = [];
  for (const [, member = "", number] of members) out[Number(number)] = member.slice(prefix.length).toLowerCase();
  return out;
}

for (const [name, header, prefix, list] of [
  ["baton_steer_verdict", "verdict.h", "BATON_STEER_", [...steerVerdicts, "verdicts"]],
  ["baton_guard_verdict", "verdict.h", "BATON_GUARD_", [...guardVerdicts, "verdicts"]],
  ["baton_server_state", "shared.h", "BATON_SERVER_", serverStates],
] as const) {
  test(`${name} is the same list here and in ${header}`, (t) => {
    t.deepEqual(enumOf(header, name, prefix), [...list]);
  });
}

test("every verdict's fate is in its name, and said in the header", (t) => {
  const text = readFileSync(join(root, "bpf", "verdict.h"), "utf8");
  const fates = { F: "forward_", H: "held", P: "pass_", D: "drop_" };
  for (const name of steerVerdicts) {
    const fate = new RegExp(`BATON_STEER_${name.toUpperCase()} = \\d+,\\s*/\\* (.)`).exec(text)?.[1];
    t.true(name.startsWith(fates[fate as keyof typeof fates]), name);
  }
});
