import type { Attempt, ResumptionResult } from "./attempt.js";
import type { Outcome } from "./reattachment.js";
import type { Resumption } from "./resumption.js";

/** Once the control connection's client has answered, whoever is silent for so long on a related one is not there any more. */
const SILENCE_MS = 2_000;

/**
 * Takes a bundle over, as one or not at all:
 *
 *   control's record claimed ─► the related ones' ─► every client's flow asked ─► related LIVE ─► control LIVE
 *     the one that decides                             └ one refusal is everybody's; one that is silent is given up
 *
 * The appliance steers and holds all flows of a bundle as its control connection's: what is reported of that one comes last.
 */
export class BundleResumption implements Attempt {
  private related: Resumption[] | undefined;
  private error: unknown;

  /**
   * @param relatedOf the bundle's other records that have no connection here, as of that revision of the stream
   * @param report of what became of one of those
   * @param refuses only to reset their clients
   */
  constructor(
    private readonly control: Resumption,
    private readonly relatedOf: (revision: number) => Promise<Resumption[]>,
    private readonly report: (result: ResumptionResult) => void,
    private readonly refuses = false,
  ) {}

  get isOurs(): boolean {
    return this.control.isOurs;
  }

  get failure(): unknown {
    return this.error ?? this.control.failure;
  }

  again(refuse: boolean): BundleResumption {
    return new BundleResumption(this.control.again(refuse), this.relatedOf, this.report, refuse);
  }

  async abandon(): Promise<void> {
    await Promise.all((this.related ?? []).map((one) => one.abandon()));
    await this.control.abandon();
  }

  async run(waiting: () => void): Promise<ResumptionResult | undefined> {
    const { control } = this;
    const results: ResumptionResult[] = [];
    try {
      if (!(await control.claim())) return undefined;
      const found = await this.relatedOf(control.claimedAt);
      this.related = await claimed(this.refuses ? found.map((one) => one.again(true)) : found);
      const all = [...this.related, control];
      const outcomes = await this.ask(all, waiting);
      const refusals = all.map((one, at) => one.refusalOf(outcomes[at] as Outcome));
      const refusal = refusals.find(
        (reason, at) => reason !== undefined && !(all[at] !== control && isSilent(outcomes[at])),
      );
      const finish = (one: Resumption, at: number) => {
        const outcome = outcomes[at] as Outcome;
        return one.finish(outcome, refusals[at] ?? (outcome.kind === "match" ? refusal : undefined));
      };
      for (const [at, one] of this.related.entries()) results.push(await finish(one, at));
      const last = await finish(control, all.length - 1);
      for (const result of results) this.report(result);
      return last;
    } catch (error) {
      this.error = error;
      for (const one of this.related ?? []) one.undo(error as Error);
      return control.undo(error as Error);
    }
  }

  /** Resolves when each has its client's answer; where one fails, when none of them is under way any more. */
  private async ask(all: Resumption[], waiting: () => void): Promise<Outcome[]> {
    let begun = 0;
    const oneWaits = () => {
      if (++begun === all.length) waiting();
    };
    const answers = all.map((one) => one.reattach(oneWaits));
    let silence: NodeJS.Timeout | undefined;
    const giveUp = () => {
      silence = setTimeout(() => {
        for (const one of this.related ?? []) one.giveUp();
      }, SILENCE_MS);
    };
    answers.at(-1)?.then(giveUp, () => {});
    const asked = await Promise.allSettled(answers);
    clearTimeout(silence);
    return asked.map((one) => {
      if (one.status === "rejected") throw one.reason;
      return one.value;
    });
  }
}

function isSilent(outcome: Outcome | undefined): boolean {
  return outcome?.kind === "refused" && outcome.answer === undefined;
}

/** Those whose records are there, and ours now. */
async function claimed(all: Resumption[]): Promise<Resumption[]> {
  const ours = await Promise.all(all.map((one) => one.claim()));
  return all.filter((_, at) => ours[at]);
}
