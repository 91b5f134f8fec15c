/** Results in a row that change the verdict: one failure of a busy second is none. */
const IN_A_ROW = 3;

/** Whether something is healthy, by checks of which single ones may err. It is until it has failed. */
export class Dampener {
  private now = true;
  /** Results in a row that speak against the verdict. */
  private against = 0;

  get healthy(): boolean {
    return this.now;
  }

  /** @returns whether the verdict has changed. */
  add(passed: boolean): boolean {
    this.against = passed === this.now ? 0 : this.against + 1;
    if (this.against < IN_A_ROW) return false;
    this.now = passed;
    this.against = 0;
    return true;
  }
}
