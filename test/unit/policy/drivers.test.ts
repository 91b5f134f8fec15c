import "../../support/quiet.js";
import test, { type ExecutionContext } from "ava";
import type { NewEvent } from "../../../controller/events/index.js";
import { HealthDriver, OverloadDriver, OverloadPolicy, Rotation } from "../../../controller/policy/index.js";
import { BatonError } from "../../../proto/errors.js";
import type { LiveConnection } from "../../../proto/rpc/index.js";
import { eventually } from "../../support/eventually.js";
import { idle, settings } from "./_cluster.js";

function connection(id: string): LiveConnection {
  return {
    ...{ id, phase: "LIVE", bytesSent: 1e6, bytesReceived: 0, clientSeq: 0, serverSeq: 0, object: "/o" },
    ...{ objectOffset: 0, firstByteSeq: 0, isProtected: true, reason: "", ageSeconds: 1, history: [], tcpState: 1 },
    outstanding: 1,
  };
}

/** s1 burns, with ten connections; what happens to them is written down. */
function scene(t: ExecutionContext, dryRun: boolean, move: (id: string) => Promise<{ result: string }>) {
  const events: NewEvent[] = [];
  const moved: string[] = [];
  const state = { burnt: 1.9, blocked: "", looks: 0 };
  const policy = new OverloadPolicy({ ...settings, sustainedMs: 1 }, dryRun);
  const driver = new OverloadDriver(policy, {
    servers: () => [
      { id: "s1", gives: true, takes: true, load: { ...idle, cpu: state.burnt, egress: 10e6 } },
      { id: "s2", gives: true, takes: true, load: idle },
    ],
    blocked: () => state.blocked,
    describe: async () => {
      state.looks++;
      return Array.from({ length: 10 }, (_, i) => connection(`c${i}`));
    },
    move: (id, to, why) => {
      moved.push(`${id} to ${to}: ${why}`);
      return move(id);
    },
    event: (event) => events.push(event),
  });
  driver.start();
  t.teardown(() => driver.close());
  return { driver, events, moved, state };
}

test("moves are carried out and counted, and the beginning and the end of overload are events", async (t) => {
  const refused = new BatonError("NOT_FOUND", "There is no connection.");
  const { driver, events, moved, state } = scene(t, false, async (id) => {
    if (id === "c1") throw refused;
    return { result: id === "c2" ? "refused" : "ok" };
  });
  await eventually("moves", () => moved.length >= 3);
  t.regex(moved[0]!, /^c0 to s2: overload of s1: cpu 1\.90 of 2 cores/);
  t.regex(driver.standing("s1").sentence, /^overloaded: .+; \d+ connections? moved away/);
  const counted = driver.counts.moves.get("s1")!;
  t.is(counted.get("not begun"), 1);
  t.is(counted.get("refused"), 1);
  t.is(counted.get("ok"), moved.length - 2);
  t.regex(events[0]?.reason ?? "", /^overloaded: /);
  state.burnt = 0;
  await eventually("over", () => events.at(-1)?.reason === "no longer overloaded");
  t.true(events.every(({ kind, from }) => kind === "server" && from === "s1"));
});

test("a dry run says what it would do", async (t) => {
  const { driver, events, moved } = scene(t, true, async () => ({ result: "ok" }));
  const event = await eventually("said", () => events.find(({ connection: id }) => id));
  t.like(event, { kind: "server", connection: "c0", from: "s1", to: "s2", result: "ok" });
  t.regex(event.reason ?? "", /^would move a connection: overload of s1: cpu /);
  t.regex(driver.standing("s1").sentence, /\d+ connections? would have been moved away/);
  t.deepEqual(moved, []);
});

test("while something stands against it nothing is asked and nothing is moved, and it is counted", async (t) => {
  const { driver, moved, state } = scene(t, false, async () => ({ result: "ok" }));
  state.blocked = "s3 is HELD";
  await eventually("counted", () => (driver.counts.stops.get("s1")?.get("takeover") ?? 0) >= 2);
  t.deepEqual(moved, []);
  t.is(state.looks, 0);
  t.regex(driver.standing("s1").sentence, /; nothing is moved: s3 is HELD$/);
});

test("a server that is not healthy is drained and emptied until it is healthy again", async (t) => {
  const state = { unhealthy: true, out: false, emptied: 0 };
  const rotation = new Rotation({
    drain: () => {
      state.out = true;
    },
    undrain: () => {
      state.out = false;
    },
  });
  const driver = new HealthDriver({
    servers: () => [
      {
        ...{ id: "s1", state: state.out ? "DRAINING" : "UP", able: true, leaves: false },
        drained: rotation.isHeld("s1", "health"),
        unhealthy: state.unhealthy ? [{ service: "http", reason: "its directory /srv does not exist" }] : [],
      },
      { id: "s2", state: "UP", able: true, leaves: false, drained: false, unhealthy: [] },
    ],
    rotation,
    connections: () => 1,
    empty: async (server, isOver) => {
      t.is(server, "s1");
      state.emptied++;
      await eventually("it is over", isOver);
    },
  });
  driver.start();
  t.teardown(() => driver.close());
  await eventually("out of rotation", () => state.out && state.emptied === 1);
  state.unhealthy = false;
  await eventually("back", () => !state.out);
  t.is(state.emptied, 1, "one at a time");
});
