import { Metrics, type Sample } from "../proto/metrics.js";
import { illegalTransitions } from "../proto/phase.js";
import type { Tally } from "../proto/tally.js";

/** Where the values come from; each is asked at every scrape. */
export interface WorkerSources {
  /** Packets by the guard's verdict. */
  verdicts(): Record<string, number>;
  /** Entries in the guard's table, and how many there can be. */
  room(): { used: number; capacity: number };
  connections(): number;
  ended(): number;
  /** By result. */
  takeovers: Tally;
  takeoversRetried(): number;
  /** Requests and responses with which no other server could have gone on, by reason. */
  exposures: Tally;
  /** New connections of clients that have too many, by reason. */
  turnedAway(): Tally;
  /** Packets that were no answers to a probe, by reason. */
  ignored(): Tally;
  commitsRefused(): number;
  /** Request bodies that the store did not take. */
  spillsRefused(): number;
  /** Changes in the store that were passed over. */
  passedOver(): number;
  controllers(): number;
  /** Results that some controller has not acknowledged. */
  unacknowledged(): number;
}

/** The worker's metrics. */
export class WorkerMetrics {
  readonly metrics: Metrics;
  readonly #commits;

  constructor(server: string, sources: WorkerSources) {
    const metrics = new Metrics({ server });
    this.metrics = metrics;
    this.#commits = metrics.histogram("commit_seconds", "From a record's write to the store's acknowledgement");
    metrics.counterFrom("guard_verdicts_total", "Packets by the guard's verdict", ["verdict"], () =>
      Object.entries(sources.verdicts()).map(([verdict, value]) => ({ labels: { verdict }, value })),
    );
    metrics.gauge("guard_entries", "Entries in the guard's table", [], () => [{ value: sources.room().used }]);
    metrics.gauge("guard_capacity", "Entries that there is room for", [], () => [{ value: sources.room().capacity }]);
    metrics.gauge("connections", "Connections of this worker", [], () => [{ value: sources.connections() }]);
    metrics.gauge("controllers_connected", "Controllers with a stream to this worker", [], () => [
      { value: sources.controllers() },
    ]);
    metrics.gauge("results_unacknowledged", "Results that wait for a controller", [], () => [
      { value: sources.unacknowledged() },
    ]);
    counted("connections_ended_total", "Connections that ended here", sources.ended);
    counted("commits_refused_total", "Writes that the store did not take, tried again", sources.commitsRefused);
    counted(
      "spills_refused_total",
      "Request bodies that the store did not take, kept no longer",
      sources.spillsRefused,
    );
    counted("takeovers_retried_total", "Takeovers that failed and were tried again", sources.takeoversRetried);
    counted("illegal_transitions_total", "Changes of phase that the table does not have", illegalTransitions);
    counted("store_passed_over_total", "Changes in the store that could not be taken in", sources.passedOver);
    tallied("takeovers_total", "Connections taken over by this worker", "result", () => sources.takeovers);
    const exposed = "Requests and responses begun with which no other server could go on";
    tallied("unprotected_total", exposed, "reason", () => sources.exposures);
    tallied(
      "connections_turned_away_total",
      "New connections of clients that had too many, by of what",
      "reason",
      sources.turnedAway,
    );
    tallied("answers_ignored_total", "Packets of clients that were no answers to a probe", "reason", sources.ignored);

    function counted(name: string, help: string, value: () => number): void {
      metrics.counterFrom(name, help, [], () => [{ value: value() }]);
    }

    function tallied(name: string, help: string, label: string, tally: () => Tally): void {
      metrics.counterFrom(name, help, [label], () =>
        tally().entries.map(([key, value]): Sample => ({ labels: { [label]: key }, value })),
      );
    }
  }

  /** A record's write was acknowledged. */
  committed(seconds: number): void {
    this.#commits.observe(seconds);
  }
}
