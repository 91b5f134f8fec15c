import { createServer, type Server } from "node:http";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { BatonError } from "./errors.js";
import { endpointText, parseEndpoint } from "./flow.js";

export { type Counter, type Gauge, type Histogram, Registry } from "prom-client";

/** A value for each combination of labels; `labels` in the order in which the metric was declared. */
export interface Sample {
  labels?: Record<string, string>;
  value: number;
}

/** Seconds, from a probe's round trip to a stalled store. */
const secondsBuckets = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** The metrics of one process. All names begin with baton_; units are the last word of a name. */
export class Metrics {
  readonly registry = new Registry();

  /** @param labels on every metric, for instance {server: "s1"} */
  constructor(labels: Record<string, string>) {
    this.registry.setDefaultLabels(labels);
    collectDefaultMetrics({ register: this.registry, prefix: "baton_" });
  }

  counter(name: string, help: string, labels: string[] = []): Counter {
    return new Counter({ name: prefixed(name), help, labelNames: labels, registers: [this.registry] });
  }

  /** Observations in seconds. */
  histogram(name: string, help: string, labels: string[] = []): Histogram {
    const options = { name: prefixed(name), help, labelNames: labels, buckets: secondsBuckets };
    return new Histogram({ ...options, registers: [this.registry] });
  }

  /** A gauge that is read when somebody asks. A source that fails leaves its last values out. */
  gauge(name: string, help: string, labels: string[], collect: () => Iterable<Sample>): Gauge {
    return new Gauge({
      name: prefixed(name),
      help,
      labelNames: labels,
      registers: [this.registry],
      collect() {
        this.reset();
        for (const sample of collect()) this.set(sample.labels ?? {}, sample.value);
      },
    });
  }

  /** As gauge(), for what only grows and is counted elsewhere: a BPF map, another object. */
  counterFrom(name: string, help: string, labels: string[], collect: () => Iterable<Sample>): Counter {
    return new Counter({
      name: prefixed(name),
      help,
      labelNames: labels,
      registers: [this.registry],
      collect() {
        this.reset();
        for (const sample of collect()) this.inc(sample.labels ?? {}, sample.value);
      },
    });
  }
}

function prefixed(name: string): string {
  return name.startsWith("baton_") ? name : `baton_${name}`;
}

export interface MetricsServer {
  close(): Promise<void>;
}

/**
 * HTTP for Prometheus on ADDRESS:PORT: /metrics, and /healthz, which answers 200 or, with what is wrong a line each, 503.
 * Throws PORT_TAKEN.
 */
export async function serveMetrics(listen: string, metrics: Metrics, problems: () => string[]): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    const answer = (status: number, type: string, body: string) => {
      response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) });
      response.end(request.method === "HEAD" ? undefined : body);
    };
    const path = request.url?.split("?")[0];
    if (request.method !== "GET" && request.method !== "HEAD") return answer(405, "text/plain", "only GET\n");
    if (path === "/healthz") {
      const wrong = problems();
      return answer(wrong.length === 0 ? 200 : 503, "text/plain", `${wrong.length === 0 ? "ok" : wrong.join("\n")}\n`);
    }
    if (path !== "/metrics") return answer(404, "text/plain", "there is /metrics and /healthz\n");
    metrics.registry.metrics().then(
      (text) => answer(200, metrics.registry.contentType, text),
      (error: Error) => answer(500, "text/plain", `${error.message}\n`),
    );
  });
  server.requestTimeout = 5000;
  const { address, port } = parseEndpoint(listen);
  await listening(server, address, port);
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listening(server: Server, address: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const where = endpointText({ address, port });
      const why = error.code === "EADDRINUSE" ? "it is in use" : `${error.code ?? error.message}`;
      reject(new BatonError("PORT_TAKEN", `The metrics cannot be served on ${where}: ${why}.`, error));
    });
    server.listen(port, address, () => resolve());
  });
}
