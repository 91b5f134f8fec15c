import test from "ava";
import { type HealthView, judgeHealth } from "../../../controller/policy/health.js";
import { Rotation } from "../../../controller/policy/rotation.js";

const well: HealthView = {
  id: "s1",
  state: "UP",
  able: true,
  unhealthy: [],
  unhealthyMs: 0,
  drained: false,
  leaves: false,
};
const why = "its directory /srv does not exist";
const ill = { unhealthy: [{ service: "http", reason: why }], unhealthyMs: 2_000 };
const drained = { state: "DRAINING", drained: true } as const;

function judged(...views: Array<Partial<HealthView>>) {
  const { drain, undrain, notes } = judgeHealth(views.map((view, i) => ({ ...well, id: `s${i + 1}`, ...view })));
  return { drain: drain.map(({ server }) => server), undrain, notes: [...notes.keys()] };
}

test("what is not healthy is drained, with the reason", (t) => {
  t.deepEqual(judged({}, {}, {}), { drain: [], undrain: [], notes: [] });
  t.deepEqual(judged({}, ill, {}), { drain: ["s2"], undrain: [], notes: [] });
  t.deepEqual(judgeHealth([well, { ...well, ...ill, id: "s2" }]).drain, [
    { server: "s2", reason: `its service http is not healthy: ${why}` },
  ]);
  t.deepEqual(judged(ill, ill, {}).drain, ["s1", "s2"]);
});

test("a cause that all have in common drains none, and it is said", (t) => {
  t.deepEqual(judged({ ...ill, unhealthyMs: 1_000 }, {}), { drain: [], undrain: [], notes: [] }, "it may yet show");
  t.deepEqual(judged(ill, ill), { drain: [], undrain: [], notes: ["s1", "s2"] });
  t.is(
    judgeHealth([{ ...well, ...ill }]).notes.get("s1"),
    `its service http is not healthy: ${why}; it is not drained: no other server is healthy`,
  );
  t.deepEqual(judged(ill, { state: "DOWN", able: false }).notes, ["s1"]);
  t.deepEqual(
    judged({ ...ill, ...drained }, ill),
    { drain: [], undrain: ["s1"], notes: ["s2"] },
    "and the first is back",
  );
});

test("it is back when it is healthy; an operator's drain is not ended", (t) => {
  t.deepEqual(judged({ ...ill, ...drained }, {}).undrain, []);
  t.deepEqual(judged(drained, {}).undrain, ["s1"]);
  t.deepEqual(judged({ state: "DRAINING" }, {}).undrain, [], "not ours");
  t.deepEqual(judged({ ...drained, leaves: true }, ill).notes, ["s2"], "it does not serve");
});

test("a suspicion puts nothing back, a death does", (t) => {
  t.deepEqual(judged({ ...ill, ...drained }, { state: "HELD", able: false }).undrain, []);
  t.deepEqual(judged({ ...ill, ...drained }, { state: "TAKEOVER", able: false }).undrain, ["s1"]);
});

test("a server is back in rotation when nobody wants it out any more", (t) => {
  const said: string[] = [];
  const rotation = new Rotation({
    drain: (server, reason) => said.push(`${server} out: ${reason}`),
    undrain: (server) => said.push(`${server} back`),
  });
  rotation.take("s1", "health", "ill");
  rotation.take("s1", "operator", "command");
  t.is(rotation.give("s1", "health"), "command");
  t.true(rotation.isHeld("s1", "operator"));
  t.is(rotation.give("s1", "operator", "agent"), undefined);
  t.deepEqual(said, ["s1 out: ill", "s1 out: command", "s1 out: command", "s1 back"]);
  rotation.take("s1", "health", "ill");
  t.is(rotation.give("s1", "operator"), "ill", "a command does not make it healthy");
  rotation.forget("s1");
  t.false(rotation.isHeld("s1", "health"));
});

test("what could not be put back is still held", (t) => {
  const rotation = new Rotation({
    drain: () => {},
    undrain: () => {
      throw new Error("it is HELD");
    },
  });
  rotation.take("s1", "health", "ill");
  t.throws(() => rotation.give("s1", "health"));
  t.true(rotation.isHeld("s1", "health"));
});
