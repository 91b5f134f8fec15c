import "../support/quiet.js";
import test from "ava";
import { ControllerMetrics } from "../../controller/metrics/index.js";
import { serveMetrics } from "../../proto/metrics.js";
import { server } from "../support/api.js";
import { freeAddress } from "../support/listen.js";

test("the controller's metrics over HTTP", async (t) => {
  let problems: string[] = [];
  const metrics = new ControllerMetrics("lb1", {
    servers: () => [server],
    connections: () => 7,
    relatedFlows: () => 11,
    agents: () => 3,
    storeConnected: () => true,
    verdicts: () => ({ forward: 12, held: 4 }),
    held: () => ({ flows: 1, packets: 2, bytes: 3, sent: 8, dropped: 6 }),
    strays: () => ({ forwarded: 5, dropped: 9 }),
    transitions: () =>
      new Map([
        ["UP→HELD", 3],
        ["illegal", 1],
      ]),
    overload: () => ({
      moves: new Map([["s1", new Map([["ok", 4]])]]),
      stops: new Map([["s1", new Map([["no room", 2]])]]),
    }),
  });
  const common = { time: "t", bundle: "", connection: "c", from: "s1", to: "s2", heldPackets: 5, heldUs: 9 };
  metrics.observe({ ...common, kind: "takeover", result: "ok", reason: "free text", phases: { LIVE: 12_000 } });
  metrics.observe({ ...common, kind: "takeover", result: "refused", reason: "object changed", phases: {} });
  for (let i = 0; i < 3; i++) {
    const reason = `ENOENT: no such file ${i}`;
    metrics.observe({ ...common, kind: "takeover", result: "failed", reason, phases: {}, heldPackets: 0 });
  }
  const listen = await freeAddress();
  const http = await serveMetrics(listen, metrics.metrics, () => problems);
  t.teardown(() => http.close());

  const text = await (await fetch(`http://${listen}/metrics`)).text();
  for (const line of [
    'baton_verdicts_total{verdict="forward",controller="lb1"} 12',
    'baton_held{what="packets",controller="lb1"} 2',
    'baton_held_packets_total{fate="sent",controller="lb1"} 8',
    'baton_held_packets_total{fate="dropped",controller="lb1"} 6',
    'baton_strays_total{fate="forwarded",controller="lb1"} 5',
    'baton_strays_total{fate="dropped",controller="lb1"} 9',
    'baton_server_transitions_total{from="UP",to="HELD",controller="lb1"} 3',
    'baton_server_illegal_transitions_total{controller="lb1"} 1',
    'baton_operations_total{kind="takeover",result="failed",reason="other",controller="lb1"} 3',
    'baton_connections{controller="lb1"} 7',
    'baton_related_flows{controller="lb1"} 11',
    'baton_agents_connected{controller="lb1"} 3',
    'baton_store_connected{controller="lb1"} 1',
    'baton_server_state{server="s1",state="UP",controller="lb1"} 1',
    'baton_server_state{server="s1",state="DOWN",controller="lb1"} 0',
    'baton_server_lease_age_seconds{server="s1",controller="lb1"} 0.0124',
    'baton_server_overload_index{server="s1",controller="lb1"} 0.25',
    'baton_overload_moves_total{server="s1",result="ok",controller="lb1"} 4',
    'baton_overload_stops_total{server="s1",reason="no room",controller="lb1"} 2',
    'baton_operations_total{kind="takeover",result="ok",reason="",controller="lb1"} 1',
    'baton_operations_total{kind="takeover",result="refused",reason="object changed",controller="lb1"} 1',
    'baton_phase_seconds_sum{controller="lb1",kind="takeover",phase="LIVE"} 0.012',
    'baton_operation_held_packets_total{kind="takeover",controller="lb1"} 10',
  ]) {
    t.true(text.split("\n").includes(line), line);
  }
  t.true(
    text
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .every((line) => line.startsWith("baton_")),
  );

  t.is((await fetch(`http://${listen}/healthz`)).status, 200);
  problems = ["The store is not connected."];
  const unwell = await fetch(`http://${listen}/healthz`);
  t.is(unwell.status, 503);
  t.is(await unwell.text(), "The store is not connected.\n");
  t.is((await fetch(`http://${listen}/`)).status, 404);
  t.is((await fetch(`http://${listen}/metrics`, { method: "POST" })).status, 405);

  const [, port] = listen.split(":");
  await t.throwsAsync(
    serveMetrics(listen, metrics.metrics, () => []),
    {
      code: "PORT_TAKEN",
      message: `The metrics cannot be served on 127.0.0.1:${port}: it is in use.`,
    },
  );
});
