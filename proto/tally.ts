/** How often what has happened, by a name out of a fixed set. */
export class Tally {
  private readonly counts = new Map<string, number>();

  add(name: string): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
  }

  get entries(): Array<[name: string, count: number]> {
    return [...this.counts];
  }
}
