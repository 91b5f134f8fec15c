import type { LiveConnection } from "../../proto/rpc/index.js";
import type { ConnectionIndex } from "./table.js";

/**
 * What a server has, each bundle as one connection: moved together, they weigh together. What is related to a connection that
 * is not among them is left out.
 */
export function asBundles(connections: LiveConnection[], index: Pick<ConnectionIndex, "get">): LiveConnection[] {
  const bundles = new Map<string, LiveConnection>();
  const members: LiveConnection[] = [];
  for (const connection of connections) {
    if (index.get(connection.id)?.isRelated) members.push(connection);
    else bundles.set(connection.id, connection);
  }
  for (const { id, bytesSent, outstanding, isProtected } of members) {
    const control = index.get(id)?.bundleId ?? "";
    const bundle = bundles.get(control);
    if (!bundle) continue;
    bundles.set(control, {
      ...bundle,
      bytesSent: bundle.bytesSent + bytesSent,
      outstanding: bundle.outstanding + outstanding,
      isProtected: bundle.isProtected && isProtected,
    });
  }
  return [...bundles.values()];
}
