import type { ConnectionMessage, EventMessage } from "../../proto/rpc/index.js";
import { closeWithTest } from "./cleanup.js";
import type { Control } from "./control.js";

/** Looks again and again at whose the connections of each bundle are. */
export class BundleWatch {
  /** What was seen of bundles that had two owners at a time. */
  readonly split: string[] = [];
  looks = 0;
  private ended = false;
  private readonly running: Promise<void>;

  constructor(private readonly control: Control) {
    this.running = this.run();
    closeWithTest(this);
  }

  /** The test is over, whatever has become of it. */
  close(): void {
    this.ended = true;
  }

  async end(): Promise<void> {
    this.close();
    await this.running;
  }

  private async run(): Promise<void> {
    while (!this.ended) {
      const connections = await this.control.connections().catch(() => []);
      for (const [bundle, rows] of bundlesIn(connections)) {
        const owners = new Set(rows.map(({ owner }) => owner));
        if (owners.size > 1) this.split.push(`${bundle}: ${[...owners].join(", ")}`);
      }
      this.looks++;
    }
  }
}

export function bundlesIn(connections: ConnectionMessage[]): Map<string, ConnectionMessage[]> {
  const bundles = new Map<string, ConnectionMessage[]>();
  for (const one of connections) {
    if (one.bundle !== "") bundles.set(one.bundle, [...(bundles.get(one.bundle) ?? []), one]);
  }
  return bundles;
}

/** What was done to a bundle as one. */
export interface BundleOperation {
  kind: string;
  from: string[];
  to: string[];
}

/**
 * Migrations and takeovers that were brought to an end, by bundle and in their order. What an operation says of the control connection it
 * says last, so that the next event is of another one: a bundle may leave the same server twice.
 */
export function operationsIn(events: readonly EventMessage[]): Map<string, BundleOperation[]> {
  const operations = new Map<string, BundleOperation[]>();
  const open = new Map<string, BundleOperation>();
  for (const { kind, connection, bundle, from, to, result } of events) {
    if ((kind !== "takeover" && kind !== "migration") || bundle === "" || result !== "ok") continue;
    const key = `${bundle} ${kind}`;
    let operation = open.get(key);
    if (!operation) {
      operation = { kind, from: [], to: [] };
      open.set(key, operation);
      operations.set(bundle, [...(operations.get(bundle) ?? []), operation]);
    }
    if (!operation.from.includes(from)) operation.from.push(from);
    if (!operation.to.includes(to)) operation.to.push(to);
    if (connection === bundle) open.delete(key);
  }
  return operations;
}

/** Bundles of which the events say that their connections went to different servers by the same operation. */
export function splitByEvents(events: readonly EventMessage[]): string[] {
  return [...operationsIn(events)].flatMap(([bundle, operations]) =>
    operations
      .filter(({ from, to }) => from.length > 1 || to.length > 1)
      .map(({ kind, from, to }) => `${bundle} ${kind} from ${from.join(", ")} to ${to.join(", ")}`),
  );
}
