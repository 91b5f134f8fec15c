/** Share of its guard's table from which a server gets no new flows, and below which it gets them again. */
const FULL_FROM = 0.95;
const FREE_BELOW = 0.9;

/** Which servers have no room for new connections, by what their agents report. */
export class Crowding {
  private readonly crowded = new Set<string>();

  /** @param used share of the table that is taken. @returns whether it has changed that the server gets new flows */
  report(server: string, used: number): boolean {
    const was = this.crowded.has(server);
    if (used >= FULL_FROM) this.crowded.add(server);
    else if (used < FREE_BELOW) this.crowded.delete(server);
    return this.crowded.has(server) !== was;
  }

  isCrowded(server: string): boolean {
    return this.crowded.has(server);
  }
}
