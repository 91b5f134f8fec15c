import { logger } from "../proto/log.js";
import type { LinkHandlers } from "./supervisor/link.js";

const log = logger("worker");

/** What a worker does at its supervisor's word, once there is something that it concerns. */
export interface Obedient {
  /** Every socket is closed inside repair mode. */
  abandon(why: string): void;
  /** Resolves when every connection is with another server, or cannot go there. */
  leave(): Promise<void>;
  /** What waits for a commit may leave without, or no longer. */
  protectionChanged(): void;
  /** Another agent takes this one's place: every connection goes to its worker. */
  pass(): void;
  /** It does not, after all. */
  keep(reason: string): void;
  /** This worker has its predecessor's connections, and goes on with them. */
  serve(): void;
}

/** The supervisor's word may come at any moment of a worker's life, also while it starts. */
export class Orders implements LinkHandlers {
  private worker: Obedient | undefined;
  private withoutStore = false;

  /** @param exit ends the process */
  constructor(private readonly exit: () => void) {}

  /** Policy serve-unprotected is in force. */
  get unprotected(): boolean {
    return this.withoutStore;
  }

  /** From now on there are connections, or may be. */
  obey(worker: Obedient): void {
    this.worker = worker;
  }

  onFenced(why: string): void {
    log.warn({ why, started: this.worker !== undefined }, "fenced: every connection is closed in silence");
    this.worker?.abandon(why);
    this.exit();
  }

  async onLeave(): Promise<void> {
    await this.worker?.leave();
  }

  onUnprotected(on: boolean): void {
    this.withoutStore = on;
    this.worker?.protectionChanged();
  }

  onPass(): void {
    this.worker?.pass();
  }

  onKeep(reason: string): void {
    this.worker?.keep(reason);
  }

  onServe(): void {
    this.worker?.serve();
  }

  onRetire(): void {
    log.info("another worker has everything");
    this.exit();
  }
}
