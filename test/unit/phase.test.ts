import test from "ava";
import { illegalTransitions, isLegal, PhaseMachine } from "../../proto/phase.js";
import { phases } from "../../proto/vocabulary.js";

test("a takeover and a migration go through the table; nothing else does", (t) => {
  const takeover = new PhaseMachine("HELD");
  for (const phase of ["UNREADY", "READY", "LIVE"] as const) t.true(takeover.move(phase));
  const migration = new PhaseMachine("LIVE");
  for (const phase of ["HELD", "FROZEN", "UNREADY", "READY", "LIVE"] as const) t.true(migration.move(phase));
});

test("an illegal transition is counted and not made", (t) => {
  const machine = new PhaseMachine("LIVE");
  const before = illegalTransitions();
  t.false(machine.move("READY"));
  t.is(machine.phase, "LIVE");
  t.is(illegalTransitions(), before + 1);
});

test("every phase but REFUSED has a way on, and every phase in between an error exit", (t) => {
  for (const from of phases) {
    const next = phases.filter((to) => isLegal(from, to));
    t.is(next.length === 0, from === "REFUSED", from);
    if (!["LIVE", "RESUMED_ON_OLD", "REFUSED"].includes(from)) t.true(next.includes("REFUSED"), from);
  }
});
