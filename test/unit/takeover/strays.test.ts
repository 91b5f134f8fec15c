import "../../support/quiet.js";
import test, { type ExecutionContext } from "ava";
import { Strays } from "../../../controller/takeover/strays.js";
import { BatonError } from "../../../proto/errors.js";
import type { Flow } from "../../../proto/flow.js";
import { World } from "./_world.js";

const up = (slot: number) => ({ slot, incarnation: 1, state: "UP" as const, returned: true });

function straysOf(t: ExecutionContext) {
  const world = new World(t, { s1: up(1), s2: up(2) });
  const strays = new Strays({
    appliance: world.appliance,
    placement: world.placement,
    index: world.index,
    ownerOf: ({ serverId, incarnation }) => (world.holds(serverId, incarnation) ? world.memberOf(serverId) : undefined),
    memberOfSlot: () => undefined,
    seesRecords: () => true,
    serves: () => true,
    episodeOfSlot: () => undefined,
    adopt: () => Promise.reject(new Error("nobody adopts here")),
    adopted: async () => {},
  });
  const id = world.record("s2", 1);
  const flow = world.index.get(id)?.flow() as Flow;
  /** A packet of it that s1 has sent back. */
  const bounce = () => strays.bounced([{ flow, slot: 1, frame: Buffer.alloc(60) }]);
  return { world, strays, id, bounce };
}

test("a packet that was sent back goes to its owner, as do the next ones until the connection ends", (t) => {
  const { world, strays, id, bounce } = straysOf(t);
  bounce();
  t.is(world.appliance.sent.length, 1);
  t.is(world.appliance.sent[0]?.[0], 2, "the owner's address");
  t.deepEqual([...world.appliance.excepted.values()], [2]);
  const entry = world.index.removed(id);
  if (entry) world.placement.ended(entry);
  t.is(world.appliance.excepted.size, 0, "nothing is left of it");
  t.like(strays.counters, { forwarded: 1, dropped: 0 });
});

test("neither a full table nor a full interface ends anything: it is counted", (t) => {
  const { world, strays, bounce } = straysOf(t);
  world.appliance.failures.putExceptions = new BatonError("LIMIT_REACHED", "the table is full");
  bounce();
  t.like(strays.counters, { forwarded: 1, dropped: 0 });
  world.appliance.failures.send = new Error("ENOBUFS");
  bounce();
  t.like(strays.counters, { forwarded: 1, dropped: 1 });
});

test("a packet of a dead life's connection is not its successor's", (t) => {
  const { world, strays } = straysOf(t);
  const id = world.record("s2", 1);
  world.set("s2", { incarnation: 2 });
  strays.bounced([{ flow: world.index.get(id)?.flow() as Flow, slot: 1, frame: Buffer.alloc(60) }]);
  t.is(world.appliance.sent.length, 0);
  t.like(strays.counters, { forwarded: 0, dropped: 1 });
});
