/** A connection rests at most 2^5 times as long as the first time. */
const DOUBLINGS_MAX = 5;
/** So long after its rest a connection's moves are remembered, as a multiple of the rest. */
const REMEMBERED = 2 ** (DOUBLINGS_MAX + 1);

/**
 * Who stays as it is for a while. A moved connection rests twice as long with every further move: one that overloads every
 * server by itself must not wander for ever. A server that was given connections gives none: it may not yet show what they cost.
 */
export class Rest {
  private readonly connections = new Map<string, { until: number; moves: number }>();
  private readonly receivers = new Map<string, number>();

  constructor(private readonly restMs: number) {}

  moved(atMs: number, connection: string, to: string): void {
    this.forget(atMs);
    const moves = (this.connections.get(connection)?.moves ?? 0) + 1;
    this.connections.delete(connection); // to the end: the map is in order of the last move
    const until = atMs + this.restMs * 2 ** Math.min(moves - 1, DOUBLINGS_MAX);
    this.connections.set(connection, { until, moves });
    this.receivers.set(to, atMs + this.restMs);
  }

  connectionRests(atMs: number, connection: string): boolean {
    return atMs < (this.connections.get(connection)?.until ?? 0);
  }

  receiverRests(atMs: number, server: string): boolean {
    return atMs < (this.receivers.get(server) ?? 0);
  }

  /** Bounded by the budget of moves: whatever has not moved for long goes. */
  private forget(atMs: number): void {
    for (const [connection, { until }] of this.connections) {
      if (atMs < until + REMEMBERED * this.restMs) return;
      this.connections.delete(connection);
    }
  }
}
