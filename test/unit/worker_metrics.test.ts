import test from "ava";
import { WorkerMetrics } from "../../agent/metrics.js";
import { Tally } from "../../proto/tally.js";

test("the worker's metrics say what its parts have counted", async (t) => {
  const takeovers = new Tally();
  const ignored = new Tally();
  const exposures = new Tally();
  const turnedAway = new Tally();
  const worker = new WorkerMetrics("s1", {
    verdicts: () => ({ in_no_room: 4 }),
    room: () => ({ used: 61, capacity: 64 }),
    connections: () => 2,
    ended: () => 3,
    takeovers,
    takeoversRetried: () => 5,
    exposures,
    turnedAway: () => turnedAway,
    ignored: () => ignored,
    commitsRefused: () => 6,
    spillsRefused: () => 9,
    passedOver: () => 7,
    controllers: () => 1,
    unacknowledged: () => 8,
  });
  takeovers.add("ok");
  for (let i = 0; i < 2; i++) ignored.add("retransmission");
  exposures.add("digest pending");
  turnedAway.add("connections");
  worker.committed(0.002);
  const lines = (await worker.metrics.registry.metrics()).split("\n");
  for (const line of [
    'baton_guard_verdicts_total{verdict="in_no_room",server="s1"} 4',
    'baton_guard_entries{server="s1"} 61',
    'baton_guard_capacity{server="s1"} 64',
    'baton_connections{server="s1"} 2',
    'baton_connections_ended_total{server="s1"} 3',
    'baton_takeovers_total{result="ok",server="s1"} 1',
    'baton_takeovers_retried_total{server="s1"} 5',
    'baton_answers_ignored_total{reason="retransmission",server="s1"} 2',
    'baton_unprotected_total{reason="digest pending",server="s1"} 1',
    'baton_connections_turned_away_total{reason="connections",server="s1"} 1',
    'baton_commits_refused_total{server="s1"} 6',
    'baton_spills_refused_total{server="s1"} 9',
    'baton_store_passed_over_total{server="s1"} 7',
    'baton_illegal_transitions_total{server="s1"} 0',
    'baton_controllers_connected{server="s1"} 1',
    'baton_results_unacknowledged{server="s1"} 8',
    'baton_commit_seconds_bucket{le="0.001",server="s1"} 0',
    'baton_commit_seconds_bucket{le="0.005",server="s1"} 1',
    'baton_commit_seconds_count{server="s1"} 1',
  ]) {
    t.true(lines.includes(line), line);
  }
});
