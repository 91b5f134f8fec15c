import test from "ava";
import type { EventMessage } from "../../proto/rpc/index.js";
import { operationsIn, splitByEvents } from "../support/bundles.js";

function event(kind: string, connection: string, from: string, to: string, result = "ok"): EventMessage {
  const nothing = { time: "", reason: "", phases: {}, heldPackets: 0, heldUs: 0 };
  return { ...nothing, kind, connection, bundle: "control", from, to, result };
}

test("a bundle may leave the same server twice, to different ones", (t) => {
  const events = [
    event("migration", "data", "s3", "s1"),
    event("migration", "control", "s3", "s1"),
    event("takeover", "data", "s1", "s3"),
    event("takeover", "control", "s1", "s3"),
    event("migration", "control", "s3", "s2", "refused"),
    event("migration", "control", "s3", "s2"),
  ];
  t.deepEqual(splitByEvents(events), []);
  t.deepEqual(
    operationsIn(events)
      .get("control")
      ?.map(({ from, to }) => [...from, ...to]),
    [
      ["s3", "s1"],
      ["s1", "s3"],
      ["s3", "s2"],
    ],
  );
});

test("a bundle of which two servers have a part is found", (t) => {
  const split = [event("takeover", "data", "s1", "s2"), event("takeover", "control", "s1", "s3")];
  t.deepEqual(splitByEvents(split), ["control takeover from s1 to s2, s3"]);
  t.deepEqual(splitByEvents([...split, event("takeover", "control", "s2", "s1")]), [
    "control takeover from s1 to s2, s3",
  ]);
});
