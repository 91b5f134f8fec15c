/**
 * What is on its way to or from this server, or being taken over: half here and half elsewhere, so that it cannot be passed to
 * another process of this server. Counted, to be waited for.
 */
export class Transit {
  private open = 0;
  private readonly waiting = new Set<() => void>();

  /** @returns what is to be called once when it has ended */
  begin(): () => void {
    this.open++;
    return () => {
      this.open--;
      if (this.open > 0) return;
      for (const wake of [...this.waiting]) wake();
    };
  }

  track<T>(work: Promise<T>): Promise<T> {
    return work.finally(this.begin());
  }

  get size(): number {
    return this.open;
  }

  /** Calls `then` at a moment at which nothing is under way. @returns false where there is none in time */
  idle(timeoutMs: number, then: () => void): Promise<boolean> {
    if (this.open === 0) {
      then();
      return Promise.resolve(true);
    }
    return new Promise((resolve) => {
      const end = (idle: boolean) => {
        clearTimeout(timer);
        this.waiting.delete(wake);
        if (idle) then();
        resolve(idle);
      };
      const wake = () => end(true);
      const timer = setTimeout(end, timeoutMs, false);
      this.waiting.add(wake);
    });
  }
}
