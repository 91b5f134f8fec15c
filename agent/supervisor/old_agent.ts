import { BatonError } from "../../proto/errors.js";
import { Channel } from "../channel.js";
import type { HeldLease } from "./lease.js";
import { fromPidFile } from "./predecessor.js";
import { missingOf, type NewAgentMessage, type Offer, type OldAgentMessage, replacementSocket } from "./replacement.js";
import type { Inheritance } from "./supervisor.js";
import type { WorkerProcess } from "./worker_process.js";

const answerMsMax = 2_000;
/** For this agent's worker to be ready: it reads what the store holds. */
const prepareMsMax = 60_000;
/** For the old agent to pass everything, a little more than it allows itself. */
const passMsMax = 620_000;

/** The agent that is to be replaced, as seen by the one that takes its place. */
export class OldAgent {
  readonly #id: string;
  readonly #channel: Channel<OldAgentMessage, NewAgentMessage>;
  readonly incarnation: number;
  /** Rejects when it says no, or is gone. */
  readonly #over: Promise<never>;
  readonly #lease: Promise<HeldLease>;
  readonly #isPassing: () => boolean;

  private constructor(
    id: string,
    channel: Channel<OldAgentMessage, NewAgentMessage>,
    incarnation: number,
    lease: Promise<HeldLease>,
    over: Promise<never>,
    isPassing: () => boolean,
  ) {
    this.#id = id;
    this.#channel = channel;
    this.incarnation = incarnation;
    this.#lease = lease;
    this.#over = over;
    this.#isPassing = isPassing;
  }

  /**
   * Asks the running agent. @param offer what this one will offer
   * @throws BatonError NOT_FOUND where none runs, AGENT_UNAVAILABLE where it does not want to, UNSUPPORTED where its connections could not go on
   */
  static async meet(state: string, id: string, offer: Offer): Promise<OldAgent> {
    const pid = fromPidFile(state, "supervisor", "agent", id);
    if (pid === undefined) {
      throw new BatonError("NOT_FOUND", `No agent for ${id} is running here: start this one without --replace.`);
    }
    const channel = await Channel.connect<OldAgentMessage, NewAgentMessage>(replacementSocket(state)).catch((error) => {
      const why = `The agent for ${id}, process ${pid}, cannot be replaced now: it does not take requests for that`;
      throw new BatonError("AGENT_UNAVAILABLE", `${why} (it has just started, or is an older version).`, error);
    });
    const refusal = (reason: string) =>
      new BatonError("AGENT_UNAVAILABLE", `The agent for ${id}, process ${pid}, is not replaced: ${reason}.`);
    let hold: (lease: HeldLease) => void = () => {};
    const lease = new Promise<HeldLease>((resolve) => {
      hold = resolve;
    });
    let fail: (error: Error) => void = () => {};
    const over = new Promise<never>((_resolve, reject) => {
      fail = reject;
    });
    over.catch(() => {}); // whoever waits for anything else hears of it
    let accept: (message: Extract<OldAgentMessage, { type: "accepted" }>) => void = () => {};
    const accepted = new Promise<Extract<OldAgentMessage, { type: "accepted" }>>((resolve) => {
      accept = resolve;
    });
    let passing = false;
    void channel.closed.then(() => fail(refusal("it ended the conversation")));
    channel.onMessage((message) => {
      if (message.type === "accepted") accept(message);
      else if (message.type === "refused") fail(refusal(message.reason));
      else if (message.type === "passing") passing = true;
      else hold({ ...message, untilNs: BigInt(message.untilNs) });
    });
    channel.send({ type: "replace", pid: process.pid });
    const answer = await within(answerMsMax, refusal("it did not answer"), [accepted, over]);
    const missing = missingOf(answer.offer, offer);
    if (missing !== "") {
      channel.close();
      throw new BatonError("UNSUPPORTED", `The agent for ${id}, process ${pid}, is not replaced: ${missing}.`);
    }
    return new OldAgent(id, channel, answer.incarnation, lease, over, () => passing);
  }

  /**
   * Lets the worker, started as a successor, take every connection, and then has the lease. Where this rejects the worker is of no use;
   * whether the old agent goes on, or was fenced half-way, it says itself.
   */
  async succeed(worker: WorkerProcess): Promise<Inheritance> {
    const died = worker.dying.then(() => {
      throw new BatonError(
        "AGENT_UNAVAILABLE",
        `The new worker of ${this.#id} has died; the old agent sees to the rest.`,
      );
    });
    died.catch(() => {});
    const late = (what: string) =>
      new BatonError("DEADLINE_PASSED", `The agent for ${this.#id} is not replaced: ${what}.`);
    await within(prepareMsMax, late("the new worker was not ready in time"), [
      worker.next("prepared"),
      died,
      this.#over,
    ]);
    this.#channel.send({ type: "prepared" });
    const lease = await within(passMsMax, late("the old one did not pass everything in time"), [
      this.#lease,
      died,
      this.#over,
    ]);
    return { lease, worker, relieve: () => this.#channel.send({ type: "relieved" }) };
  }

  /** Lets it go on as before. Without effect where connections are on their way already. */
  callOff(): void {
    if (!this.#isPassing()) this.leave();
  }

  /** It is told by this that nothing will come of it. */
  leave(): void {
    this.#channel.destroy();
  }
}

async function within<T>(ms: number, late: BatonError, outcomes: Array<Promise<T>>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(reject, ms, late);
  });
  try {
    return await Promise.race([...outcomes, over]);
  } finally {
    clearTimeout(timer);
  }
}
