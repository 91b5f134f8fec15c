import { BatonError, RefusedError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import type { AgentMessage, RelateAnswer, Relation } from "../../proto/rpc/index.js";

const log = logger("link");
const FORGOTTEN = "the bundle is not here any more";

/** A controller, as far as it is asked. */
export interface RelationsPeer {
  controller: string;
  session: { open: boolean; send(message: AgentMessage): boolean };
}

/** A question that some controllers have not answered yet. */
interface Question {
  bundle: string;
  asked: AgentMessage;
  waiting: Set<RelationsPeer>;
  agreed: boolean;
  end(error?: BatonError): void;
}

/**
 * Which flows go where control connections of this agent go. Every appliance steers on its own, so all controllers that are connected must
 * agree; one that connects later is told then.
 */
export class Relations {
  readonly #questions = new Map<number, Question>();
  /** What was agreed on, by bundle and by relationKey. */
  readonly #agreed = new Map<string, Map<string, Relation>>();
  #requests = 0;

  constructor(readonly peers: readonly RelationsPeer[]) {}

  /**
   * Resolves when every controller that is connected has said yes. Throws RefusedError where one says no, CONTROLLER_UNAVAILABLE; then none
   * of them has those that were new. Throws RefusedError, too, where the bundle is forgotten meanwhile; then nothing more is said.
   */
  async relate(bundle: string, relations: Relation[], deadlineMs: number): Promise<void> {
    try {
      await this.#ask(bundle, relations, deadlineMs);
    } catch (error) {
      if (error instanceof RefusedError && error.reason === FORGOTTEN) throw error;
      const known = this.#agreed.get(bundle);
      const fresh = relations.filter((relation) => !known?.has(relationKey(relation)));
      if (fresh.length > 0) this.#say({ unrelate: { bundle, relations: fresh } });
      throw error;
    }
  }

  /**
   * Another process or server had these flows related, and this one has the bundle now: every controller is told, those that connect later as well.
   * They have them as a rule; one that has lost its memory gets them back. No answer changes anything.
   */
  restate(bundle: string, relations: Relation[]): void {
    this.#agree(bundle, relations);
    this.#say({ relate: { request: ++this.#requests, bundle, relations } });
  }

  #agree(bundle: string, relations: Relation[]): void {
    const agreed = this.#agreed.get(bundle) ?? new Map<string, Relation>();
    this.#agreed.set(bundle, agreed);
    for (const relation of relations) agreed.set(relationKey(relation), relation);
  }

  #ask(bundle: string, relations: Relation[], deadlineMs: number): Promise<void> {
    const request = ++this.#requests;
    const asked: AgentMessage = { relate: { request, bundle, relations } };
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => question.end(new BatonError("CONTROLLER_UNAVAILABLE", "no controller answered in time")),
        deadlineMs,
      );
      const question: Question = {
        bundle,
        asked,
        waiting: new Set(this.peers.filter(({ session }) => session.send(asked))),
        agreed: false,
        end: (error) => {
          clearTimeout(timer);
          this.#questions.delete(request);
          if (error) return reject(error);
          this.#agree(bundle, relations); // in this very step, so that whoever forgets the bundle finds it
          resolve();
        },
      };
      this.#questions.set(request, question);
      settle(question);
    });
  }

  answered(peer: RelationsPeer, { request, ok, reason }: RelateAnswer): void {
    const question = this.#questions.get(request);
    if (!question) {
      if (!ok) log.warn({ controller: peer.controller, reason }, "a controller does not take related flows");
      return;
    }
    if (!question.waiting.delete(peer)) return;
    question.agreed ||= ok;
    if (ok) settle(question);
    else question.end(new RefusedError(reason));
  }

  /** A controller is connected again, or for the first time. */
  opened(peer: RelationsPeer): void {
    const { session } = peer;
    for (const { asked, waiting } of this.#questions.values()) if (session.send(asked)) waiting.add(peer);
    for (const [bundle, relations] of this.#agreed) {
      session.send({ relate: { request: ++this.#requests, bundle, relations: [...relations.values()] } });
    }
  }

  closed(peer: RelationsPeer): void {
    for (const question of [...this.#questions.values()]) if (question.waiting.delete(peer)) settle(question);
  }

  /** @param relations none: all of the bundle; this process need not have asked for them */
  unrelate(bundle: string, relations: Relation[] = []): void {
    const agreed = this.#agreed.get(bundle);
    for (const relation of relations) agreed?.delete(relationKey(relation));
    if (relations.length === 0 || agreed?.size === 0) this.#agreed.delete(bundle);
    this.#say({ unrelate: { bundle, relations } });
  }

  /** The bundle is another server's now, or over: it is not spoken of any more. */
  forget(bundle: string): void {
    this.#agreed.delete(bundle);
    for (const question of [...this.#questions.values()]) {
      if (question.bundle === bundle) question.end(new RefusedError(FORGOTTEN));
    }
  }

  #say(message: AgentMessage): void {
    for (const { session } of this.peers) session.send(message);
  }
}

function settle({ waiting, agreed, end }: Question): void {
  if (waiting.size > 0) return;
  end(agreed ? undefined : new BatonError("CONTROLLER_UNAVAILABLE", "no controller is connected"));
}

function relationKey({ transport, vipPort, clientPort }: Relation): string {
  return `${transport} ${vipPort} ${clientPort}`;
}
