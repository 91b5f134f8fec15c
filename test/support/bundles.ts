import type { ConnectionMessage, EventMessage } from "../../proto/rpc/index.js";
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
  }

  async end(): Promise<void> {
    this.ended = true;
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

/** Bundles of which the events say that their connections went to different servers by the same operation. */
export function splitByEvents(events: readonly EventMessage[]): string[] {
  const targets = new Map<string, Set<string>>();
  for (const { kind, bundle, from, to, result } of events) {
    if ((kind !== "takeover" && kind !== "migration") || bundle === "" || result !== "ok") continue;
    const key = `${bundle} ${kind} from ${from}`;
    targets.set(key, (targets.get(key) ?? new Set()).add(to));
  }
  return [...targets].filter(([, to]) => to.size > 1).map(([key, to]) => `${key} to ${[...to].join(", ")}`);
}
