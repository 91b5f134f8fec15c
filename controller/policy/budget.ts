/** A token bucket: at most `perSecond` in any moment, and as many a second after that. */
export class Budget {
  private tokens: number;
  private at: number | undefined;

  constructor(private readonly perSecond: number) {
    this.tokens = perSecond;
  }

  take(atMs: number): boolean {
    const elapsed = Math.max(0, atMs - (this.at ?? atMs));
    this.at = Math.max(atMs, this.at ?? atMs);
    this.tokens = Math.min(this.perSecond, this.tokens + (elapsed / 1000) * this.perSecond);
    if (this.tokens < 1) return false;
    this.tokens--;
    return true;
  }
}
