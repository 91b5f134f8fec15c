import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import * as layout from "../../bpf/layout.js";
import { MAGLEV_SIZE } from "../../bpf/maglev.js";
import { root } from "../../proto/paths.js";

/** What a C compiler makes of shared.h, against what layout.ts believes. */

const structures: Array<[string, Record<string, number>, number]> = [
  ["baton_flow", layout.flowLayout, layout.FLOW_BYTES],
  ["baton_server", layout.serverLayout, layout.SERVER_BYTES],
  ["baton_syn", layout.synLayout, 8],
  ["baton_recent", layout.recentLayout, layout.RECENT_BYTES],
  ["baton_recent_set", { way: 0 }, 4 * layout.RECENT_BYTES],
  ["baton_exception", layout.exceptionLayout, layout.EXCEPTION_BYTES],
  ["baton_related", layout.relatedLayout, layout.RELATED_BYTES],
  ["baton_maglev", layout.maglevLayout, layout.MAGLEV_BYTES],
  ["baton_hold", layout.holdLayout, layout.HOLD_BYTES],
  ["baton_held_packet", layout.heldPacketLayout, layout.HELD_PACKET_BYTES],
  ["baton_release_args", layout.releaseLayout, layout.RELEASE_BYTES],
];

const constants: Record<string, number> = {
  BATON_MAGLEV_SIZE: MAGLEV_SIZE,
  BATON_MAGLEV_ELEMENTS: (MAGLEV_SIZE + 1) / 2,
  BATON_RECENT_BITS: 18,
  BATON_RECENT_WAYS: 4,
  BATON_FILTER_BITS: 22,
  BATON_VIPS_MAX: 8,
  BATON_SYN_SACK: layout.synFlag.SACK,
  BATON_SYN_TIMESTAMPS: layout.synFlag.TIMESTAMPS,
  BATON_SYN_SEEN: layout.synFlag.SEEN,
  BATON_HELD_FLOW: layout.heldReason.FLOW,
  BATON_HELD_BOUNCED: layout.heldReason.BOUNCED,
  BATON_RECENT_TENTATIVE: 1,
  BATON_EXCEPTION_HOLD: 1,
  BATON_SERVICE_OWN: layout.serviceKind.OWN,
  BATON_SERVICE_RELATED: layout.serviceKind.RELATED,
  BATON_HOLD_HOLDING: 1,
  BATON_HOLD_RELEASED: 2,
};

/** A program that prints a line of "what number" for everything above. */
function ask(): Map<string, number> {
  const folder = mkdtempSync(join(tmpdir(), "baton-layout-"));
  const print = (what: string) => `printf("%s %lld\\n", ${JSON.stringify(what)}, (long long)(${what}));`;
  const questions = [
    ...structures.flatMap(([name, fields]) => [
      `sizeof(struct ${name})`,
      ...Object.keys(fields).map((field) => `offsetof(struct ${name}, ${field})`),
    ]),
    ...Object.keys(constants),
  ];
  const source = `#include <stdio.h>\n#include <stddef.h>\n#include <linux/bpf.h>\n#include "shared.h"\nint main(void) { ${questions.map(print).join("\n")} }\n`;
  try {
    const program = join(folder, "layout");
    execFileSync("cc", [`-I${root}/bpf`, "-xc", "-", "-o", program], { input: source });
    const lines = execFileSync(program, { encoding: "utf8" }).trim().split("\n");
    return new Map(
      lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const answers = ask();

for (const [name, fields, bytes] of structures) {
  test(`struct ${name} lies as layout.ts says`, (t) => {
    t.is(answers.get(`sizeof(struct ${name})`), bytes);
    for (const [field, offset] of Object.entries(fields)) {
      t.is(answers.get(`offsetof(struct ${name}, ${field})`), offset, field);
    }
  });
}

test("constants have the values of shared.h", (t) => {
  t.deepEqual(Object.fromEntries(Object.keys(constants).map((name) => [name, answers.get(name)])), constants);
});

test("what is encoded is decoded again", (t) => {
  const server = { mac: Buffer.from("020000000101", "hex"), state: "takeover" as const, generation: 4_000_000_000 };
  t.deepEqual(layout.decodeServer(layout.encodeServer(server)), server);
  const exception = { slot: 1023, generation: 7, hold: true };
  t.deepEqual(layout.decodeException(layout.encodeException(exception)), exception);
  const control = { clientPort: 51_234, vipPort: 21, clientIsn: 4_000_000_000 };
  t.deepEqual(layout.decodeRelated(layout.encodeRelated(control)), control);
  const hold = { deadlineNs: 2n ** 63n, slot: 9 };
  t.deepEqual(layout.decodeHold(layout.encodeHold(hold)), { ...hold, held: 0, bytes: 0n, state: "holding" });
});
