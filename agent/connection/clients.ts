import { addressBytes, isIPv6 } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import { Tally } from "../../proto/tally.js";
import { Refusals } from "./commit_meter.js";
import type { Identified } from "./host.js";

/** The first half of an IPv6 address: whoever has a network has all addresses below (RFC 4291 section 2.5.1). */
const NETWORK_BYTES = 8;

export interface ClientLimits {
  /** Connections of one client. */
  connectionsPerClient: number;
  /** Of those, half-open ones. */
  halfOpenPerClient: number;
}

type Named = Pick<Identified, "id" | "flow">;

interface Client {
  all: Set<Identified>;
  /** Those that were half-open when they were looked at last. */
  halfOpen: Set<Identified>;
}

/** What each client has of this server, so that there is room for the others. A client is an IPv4 address, or an IPv6 network. */
export class Clients {
  private readonly byKey = new Map<string, Client>();
  /** Connections that were turned away, by reason. */
  readonly turnedAway = new Tally();
  private readonly refusals: Refusals;

  constructor(
    private readonly limits: ClientLimits,
    log: ConstructorParameters<typeof Refusals>[1] = logger("acceptor"),
  ) {
    this.refusals = new Refusals("a client has too many connections: this one is turned away", log);
  }

  join(connection: Identified): void {
    const key = keyOf(connection);
    const client = this.byKey.get(key) ?? { all: new Set(), halfOpen: new Set() };
    this.byKey.set(key, client);
    client.all.add(connection);
    if (connection.isHalfOpen) client.halfOpen.add(connection);
  }

  leave(connection: Identified): void {
    const key = keyOf(connection);
    const client = this.byKey.get(key);
    if (!client) return;
    client.all.delete(connection);
    client.halfOpen.delete(connection);
    if (client.all.size === 0) this.byKey.delete(key);
  }

  /** Whether the client of this new connection has as many as it may have. */
  isFull(connection: Named): boolean {
    const { all } = this.byKey.get(keyOf(connection)) ?? {};
    return (
      all !== undefined && all.size >= this.limits.connectionsPerClient && this.turnAway(connection, "connections")
    );
  }

  /** The same of half-open ones. */
  isFullOfHalfOpen(connection: Named): boolean {
    const { halfOpen } = this.byKey.get(keyOf(connection)) ?? {};
    if (!halfOpen || halfOpen.size < this.limits.halfOpenPerClient) return false;
    for (const one of halfOpen) if (!one.isHalfOpen) halfOpen.delete(one);
    return halfOpen.size >= this.limits.halfOpenPerClient && this.turnAway(connection, "half-open connections");
  }

  private turnAway({ id }: Named, reason: string): true {
    this.turnedAway.add(reason);
    this.refusals.add(id, new Error(reason));
    return true;
  }
}

function keyOf({ flow: { client } }: Named): string {
  if (!isIPv6(client.address)) return client.address;
  return addressBytes(client.address).toString("hex", 0, NETWORK_BYTES);
}
