import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { OTHER_REASON, reasonLabel } from "../../controller/metrics/reasons.js";
import { root } from "../../proto/paths.js";

/** Reasons of refusals as the agent's code names them, up to the first name that is put in. */
function refusals(): string[] {
  const files = readdirSync(join(root, "agent"), { recursive: true, encoding: "utf8" }).filter((f) =>
    f.endsWith(".ts"),
  );
  const code = files.map((file) => readFileSync(join(root, "agent", file), "utf8")).join("\n");
  return [...code.matchAll(/(?:new RefusedError|[^.]refused)\(\s*(?:changed \? )?["`]([^"`$]+)/g)].map(
    ([, reason]) => reason as string,
  );
}

test("every reason of a refusal has a label of its own, and nothing else has", (t) => {
  const found = refusals();
  t.true(found.length > 15, `${found.length}`);
  t.deepEqual(
    found.filter((reason) => reasonLabel(reason.trim()) === OTHER_REASON),
    [],
  );
  t.is(reasonLabel("object changed"), "object changed");
  t.is(reasonLabel("it is not protected: digest pending"), "it is not protected");
  t.is(reasonLabel("ENOENT: no such file or directory, open '/srv/x'"), OTHER_REASON);
});
