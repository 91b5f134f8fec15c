import { Metrics, type Sample } from "../../proto/metrics.js";
import type { EventMessage, ServerMessage } from "../../proto/rpc/index.js";
import { serverStates } from "../../proto/vocabulary.js";
import { reasonLabel } from "./reasons.js";

/** Where the values come from; each is asked at every scrape. */
export interface ControllerSources {
  servers(): ServerMessage[];
  connections(): number;
  /** Flows that go where their control connections go. */
  relatedFlows(): number;
  agents(): number;
  storeConnected(): boolean;
  /** Packets by the appliance's verdict. */
  verdicts(): Record<string, number>;
  /** What is being held now, and the packets that were held and sent, or thrown away. */
  held(): { flows: number; packets: number; bytes: number; sent: number; dropped: number };
  /** Of packets whose connection no server has, by what became of them. */
  strays(): Record<string, number>;
  /** Of servers: "FROM→TO", and "illegal" for those that were not made. */
  transitions(): Map<string, number>;
  /** By server, and by result or reason. */
  overload(): Record<"moves" | "stops", Map<string, Map<string, number>>>;
}

/** The controller's metrics. */
export class ControllerMetrics {
  readonly metrics: Metrics;
  readonly #operations;
  readonly #phases;
  readonly #heldPackets;

  constructor(controller: string, sources: ControllerSources) {
    const metrics = new Metrics({ controller });
    this.metrics = metrics;
    this.#operations = metrics.counter("operations_total", "Finished operations and state changes", [
      "kind",
      "result",
      "reason",
    ]);
    this.#phases = metrics.histogram("phase_seconds", "From the beginning of an operation to the phase", [
      "kind",
      "phase",
    ]);
    this.#heldPackets = metrics.counter("operation_held_packets_total", "Packets held by finished operations", [
      "kind",
    ]);
    metrics.counterFrom("verdicts_total", "Packets by the appliance's verdict", ["verdict"], () =>
      Object.entries(sources.verdicts()).map(([verdict, value]) => ({ labels: { verdict }, value })),
    );
    metrics.gauge("held", "What the appliance holds now", ["what"], () =>
      (["flows", "packets", "bytes"] as const).map((what) => ({ labels: { what }, value: sources.held()[what] })),
    );
    metrics.counterFrom("held_packets_total", "Packets that were held, by what became of them", ["fate"], () =>
      (["sent", "dropped"] as const).map((fate) => ({ labels: { fate }, value: sources.held()[fate] })),
    );
    metrics.counterFrom(
      "strays_total",
      "Packets and connections that no server knew, by what became of them",
      ["fate"],
      () => Object.entries(sources.strays()).map(([fate, value]) => ({ labels: { fate }, value })),
    );
    metrics.counterFrom("server_transitions_total", "State changes of servers", ["from", "to"], () =>
      [...sources.transitions()].flatMap(([name, value]): Sample[] => {
        const [from, to] = name.split("→");
        return from && to ? [{ labels: { from, to }, value }] : [];
      }),
    );
    metrics.counterFrom(
      "server_illegal_transitions_total",
      "State changes of servers that were not made; stays 0",
      [],
      () => [{ value: sources.transitions().get("illegal") ?? 0 }],
    );
    metrics.gauge("connections", "Connections in the shared state", [], () => [{ value: sources.connections() }]);
    metrics.gauge("related_flows", "Flows that the appliance steers as their control connections", [], () => [
      { value: sources.relatedFlows() },
    ]);
    metrics.gauge("agents_connected", "Agents with a stream to this controller", [], () => [
      { value: sources.agents() },
    ]);
    metrics.gauge("store_connected", "1 while the store is connected", [], () => [
      { value: sources.storeConnected() ? 1 : 0 },
    ]);
    metrics.gauge("server_state", "1 for the state that a server is in", ["server", "state"], () =>
      sources
        .servers()
        .flatMap(({ id, state }): Sample[] =>
          serverStates.map((name) => ({ labels: { server: id, state: name }, value: name === state ? 1 : 0 })),
        ),
    );
    perServer("server_overload_index", "Load by the overload thresholds: 1 is too much", (s) => s.overloadIndex);
    perServer("server_connections", "Connections that a server owns", ({ connections }) => connections);
    perServer("server_lease_age_seconds", "Since the last renewal of a server's lease", (s) => s.leaseAgeMs / 1000);
    perServer("server_cpu_cores", "Cores that a server's host uses", ({ load }) => load?.cpu);
    perServer("server_egress_bytes_per_second", "What a server sends", ({ load }) => load?.egressBytesPerSecond);
    perServer("server_loop_delay_seconds", "Event-loop delay of a server's worker, p99 of a second", ({ load }) =>
      load ? load.loopDelayMs / 1000 : undefined,
    );

    metrics.counterFrom(
      "overload_moves_total",
      "Connections that the overload policy had leave a server",
      ["server", "result"],
      () => samples(sources.overload().moves, "result"),
    );
    metrics.counterFrom(
      "overload_stops_total",
      "Half seconds in which an overloaded server kept what it has",
      ["server", "reason"],
      () => samples(sources.overload().stops, "reason"),
    );

    function perServer(name: string, help: string, value: (server: ServerMessage) => number | undefined): void {
      metrics.gauge(name, help, ["server"], () =>
        sources.servers().flatMap((server): Sample[] => {
          const now = value(server);
          return now === undefined ? [] : [{ labels: { server: server.id }, value: now }];
        }),
      );
    }
  }

  /** Counts one event. */
  observe(event: EventMessage): void {
    const { kind, result } = event;
    const failed = result === "refused" || result === "failed";
    this.#operations.inc({ kind, result, reason: failed ? reasonLabel(event.reason) : "" });
    for (const [phase, us] of Object.entries(event.phases)) this.#phases.observe({ kind, phase }, us / 1e6);
    if (event.heldPackets > 0) this.#heldPackets.inc({ kind }, event.heldPackets);
  }
}

function* samples(counts: Map<string, Map<string, number>>, label: string): Generator<Sample> {
  for (const [server, of] of counts) {
    for (const [what, value] of of) yield { labels: { server, [label]: what }, value };
  }
}
