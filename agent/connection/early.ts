/** More than come in the moment in which an agent is replaced. */
const EARLY_MAX = 1_024;

/**
 * Related connections that have come before their bundle: while bundles are on their way from this server's former worker its listeners are
 * here already.
 */
export class Early {
  private waiting: Array<() => void> = [];
  private isWaiting = false;

  /** Bundles will come. */
  begin(): void {
    this.isWaiting = true;
  }

  /** @param accept accepts it once more. @returns whether it is kept for its bundle */
  keep(accept: () => void): boolean {
    if (!this.isWaiting || this.waiting.length >= EARLY_MAX) return false;
    this.waiting.push(accept);
    return true;
  }

  /** A bundle has come. */
  again(): void {
    for (const accept of this.waiting.splice(0)) accept();
  }

  /** No bundle will come any more. */
  end(): void {
    this.isWaiting = false;
    this.again();
  }
}
