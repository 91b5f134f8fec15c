import { type Flow, flowKey } from "../../proto/flow.js";

/**
 * Which bundle has which related flow. Two bundles may not meet at one place (client's address, VIP, its port, transport) where either of
 * them takes any client port: packets of the one would be the other's.
 */
export class Places {
  /** By place: client port (0: any) to bundle. */
  private readonly taken = new Map<string, Map<number, string>>();
  private readonly byBundle = new Map<string, Map<string, Flow>>();
  private count = 0;

  get size(): number {
    return this.count;
  }

  bundles(): string[] {
    return [...this.byBundle.keys()];
  }

  /** What a bundle has. */
  of(bundle: string): Flow[] {
    return [...(this.byBundle.get(bundle)?.values() ?? [])];
  }

  has(bundle: string, flow: Flow): boolean {
    return this.byBundle.get(bundle)?.has(flowKey(flow)) ?? false;
  }

  /** Whether another bundle stands in the way. @param flow its client port is 0 where any will do */
  isTaken(bundle: string, flow: Flow): boolean {
    for (const [port, other] of this.taken.get(placeOf(flow)) ?? []) {
      if (other !== bundle && (port === 0 || flow.client.port === 0 || port === flow.client.port)) return true;
    }
    return false;
  }

  add(bundle: string, flow: Flow): void {
    if (this.has(bundle, flow)) return;
    this.count++;
    const flows = this.byBundle.get(bundle) ?? new Map<string, Flow>();
    this.byBundle.set(bundle, flows.set(flowKey(flow), flow));
    const ports = this.taken.get(placeOf(flow)) ?? new Map<number, string>();
    this.taken.set(placeOf(flow), ports.set(flow.client.port, bundle));
  }

  /** @returns whether the bundle had it */
  remove(bundle: string, flow: Flow): boolean {
    const flows = this.byBundle.get(bundle);
    if (!flows?.delete(flowKey(flow))) return false;
    this.count--;
    if (flows.size === 0) this.byBundle.delete(bundle);
    const ports = this.taken.get(placeOf(flow));
    ports?.delete(flow.client.port);
    if (ports?.size === 0) this.taken.delete(placeOf(flow));
    return true;
  }
}

function placeOf(flow: Flow): string {
  return flowKey({ ...flow, client: { ...flow.client, port: 0 } });
}
