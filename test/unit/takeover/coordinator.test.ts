import "../../support/quiet.js";
import { setTimeout as delay } from "node:timers/promises";
import test from "ava";
import { BatonError } from "../../../proto/errors.js";
import { encodeTakeover } from "../../../proto/record.js";
import { eventually } from "../../support/eventually.js";
import { World } from "./_world.js";

const up = (slot: number) => ({ slot, incarnation: 1, state: "UP" as const, returned: true });

test("a server dies: the living take over, each connection is one event, the slot is closed", async (t) => {
  const world = new World(t, { s1: up(1), s2: up(2) });
  const id = world.record("s1", 1);
  world.die("s1");
  await eventually("announced", () => world.takeover("s1.1"));
  t.deepEqual(world.takeover("s1.1")?.survivors, ["s2"]);
  await eventually("its packets wait for the heir", () => world.appliance.slotState(1) === "takeover");
  world.record("s2", 1, id);
  await world.coordinator.takenOver("s2", 1, { batch: 1, takeoverId: "s1.1", results: [world.result(id, "s1")] });
  await eventually("closed", () => world.takeover("s1.1")?.finished);
  await eventually("freed", () => world.freed.length > 0);
  t.is(world.appliance.slotState(1), "down");
  t.deepEqual(world.freed, ["s1 true"]);
  t.deepEqual(
    world.events.filter(({ kind }) => kind === "takeover").map(({ from, to, result }) => [from, to, result]),
    [["s1", "s2", "ok"]],
  );
});

test("no heir is left: the slot goes to the dead server's successor, and that one inherits", async (t) => {
  const world = new World(t, { s1: up(1), s2: up(2) });
  world.record("s1", 1);
  world.die("s1");
  world.die("s2");
  await delay(200);
  t.deepEqual(world.freed, [], "nobody is there yet");
  world.set("s2", { returned: true });
  await eventually("s2's slot is closed", () => world.freed.length > 0);
  t.deepEqual(world.freed, ["s2 true"]);
  t.is(world.appliance.slotState(2), "down");
  t.true(["held", "takeover"].includes(world.appliance.slotState(1)), "s1's packets wait for the heir");
  t.true(world.coordinator.isClosed("s2", 1));
  t.false(world.coordinator.keepsOut("s2", 2), "its own takeover is open, and does not keep it out");
  t.true(world.coordinator.keepsOut("s1", 2));
  world.set("s2", { state: "UP", incarnation: 2 });
  await eventually("both are announced to it", () =>
    ["s1.1", "s2.1"].every((id) => world.takeover(id)?.survivors.join() === "s2"),
  );
});

test("nobody is UP: those that drain take over", async (t) => {
  const world = new World(t, { s1: up(1), s2: { ...up(2), state: "DRAINING" } });
  world.record("s1", 1);
  world.die("s1");
  await eventually("announced", () => world.takeover("s1.1"));
  t.deepEqual(world.takeover("s1.1")?.survivors, ["s2"]);
  await eventually("it gets nothing new", () => world.appliance.said.includes("tables s1/s2"));
});

test("results of a server that has no slot yet wait for it, and are taken once", async (t) => {
  const world = new World(t, { s1: up(1), s2: { ...up(2), incarnation: 0, state: "JOINING" } });
  const id = world.record("s2", 3);
  const batch = { batch: 1, takeoverId: "s9.1", results: [world.result(id, "s9")] };
  const taken = world.coordinator.takenOver("s2", 3, batch);
  await delay(100);
  t.deepEqual([world.appliance.assigned, world.appliance.said, world.events], [[], [], []], "held as before");
  world.set("s2", { incarnation: 3, state: "UP" });
  await eventually("they are taken", () => world.events.length > 0); // the coordinator's own timer keeps no process alive
  await taken;
  t.deepEqual(world.appliance.assigned, ["s2"]);
  t.is(world.events.length, 1);
});

test("a batch that cannot be taken is not counted: said again, it is", async (t) => {
  const world = new World(t, { s1: up(1), s2: up(2) });
  const id = world.record("s2", 1);
  const batch = { batch: 1, takeoverId: "s9.1", results: [world.result(id, "s9")] };
  world.appliance.failures.putExceptions = new BatonError("LIMIT_REACHED", "the table is full");
  await t.throwsAsync(world.coordinator.takenOver("s2", 1, batch), { code: "LIMIT_REACHED" });
  t.is(world.events.length, 0);
  t.is(world.placement.exceptions, 0);
  world.appliance.failures = {};
  await world.coordinator.takenOver("s2", 1, batch);
  t.is(world.events.length, 1);
});

test("the store is away: a takeover is tried with pauses until it is written", async (t) => {
  const world = new World(t, { s1: up(1), s2: up(2) });
  world.failures = 5;
  world.die("s1");
  await delay(300);
  t.true(world.writes >= 2 && world.writes <= 5, `${world.writes} attempts in 300 ms`);
  await eventually("it is written", () => world.takeover("s1.1"));
});

test("what fails at the end of a takeover ends nothing else, and is tried again", async (t) => {
  const world = new World(t, { s1: up(1), s2: up(2) });
  const id = world.record("s1", 1);
  world.die("s1");
  await eventually("announced", () => world.takeover("s1.1"));
  await delay(20);
  world.record("s2", 1, id);
  world.appliance.failures.assign = new BatonError("INTERNAL", "no");
  await delay(2_300); // past the time for its client
  t.falsy(world.takeover("s1.1")?.finished);
  world.appliance.failures = {};
  await eventually("closed", () => world.takeover("s1.1")?.finished);
});

test("a false alarm leaves the slot as it was", async (t) => {
  for (const state of ["UP", "DRAINING", "JOINING"] as const) {
    const world = new World(t, { s1: { ...up(1), state }, s2: up(2) });
    const before = world.appliance.slotState(1);
    const member = world.memberOf("s1");
    if (!member) return t.fail();
    world.coordinator.suspected(member, 1, "its stream closed");
    t.is(world.appliance.slotState(1), "held");
    await world.coordinator.unsuspected(member, 1);
    t.is(world.appliance.slotState(1), before, state);
    world.coordinator.suspected(member, 1, "its stream closed");
    await world.coordinator.unsuspected(member, 1, "up");
    t.is(world.appliance.slotState(1), "up", "put back into rotation meanwhile");
  }
});

test("what is over is not begun again; its document goes when the slot has another life", async (t) => {
  const world = new World(t, { s1: { ...up(1), state: "DOWN" }, s2: up(2) });
  const now = Date.now() * 1000;
  const takeover = { id: "s1.1", serverId: "s1", incarnation: 1, survivors: ["s2"], reason: "fenced" };
  const times = { declaredAtUs: now, suspectedAtUs: now, round: 1, finished: true };
  world.documents.set("s1.1", { takeover: { ...takeover, ...times }, revision: 5 });
  world.coordinator.seen(encodeTakeover({ ...takeover, ...times }), 5);
  t.true(world.coordinator.isClosed("s1", 1));
  world.die("s1");
  await delay(60);
  t.deepEqual([world.appliance.said, world.writes], [[], 0]);
  await world.coordinator.trim(0);
  t.truthy(world.takeover("s1.1"), "a controller that starts must know that this life is over");
  world.set("s1", { incarnation: 2, state: "UP" });
  await world.coordinator.trim(60_000);
  t.truthy(world.takeover("s1.1"), "not so soon");
  await world.coordinator.trim(0);
  t.falsy(world.takeover("s1.1"));

  world.record("s1", 1);
  await eventually("a record that comes late is taken over all the same", () => world.takeover("s1.1"));
  t.is(world.appliance.slotState(1), "down", "without its slot");
});
