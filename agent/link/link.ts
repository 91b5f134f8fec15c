import { Metadata } from "@grpc/grpc-js";
import type { Config } from "../../proto/config/index.js";
import { logger } from "../../proto/log.js";
import {
  type Adopt,
  type AgentHello,
  type AgentMessage,
  agentLinkClient,
  type ControllerMessage,
  type Describe,
  type Freeze,
  KeptStream,
  type LiveConnection,
  type LoadReport,
  type Prepare,
  type PrepareAnswer,
  type Relation,
  type TakenOver,
  type TakeoverResult,
  type Welcome,
} from "../../proto/rpc/index.js";
import { Outbox } from "./outbox.js";
import { Relations } from "./relations.js";

const log = logger("link");

/** A batch that was not acknowledged for so long is said again. */
const repeatMs = 1000;

export interface LinkHandlers {
  /** Asked at every (re)connection. */
  hello(): AgentHello;
  describe(request: Describe): LiveConnection[] | Promise<LiveConnection[]>;
  adopt(request: Adopt): Promise<TakeoverResult>;
  prepare(request: Prepare): Promise<PrepareAnswer>;
  freeze(request: Freeze): void;
  cancel(migration: string): void;
  welcome(controller: string, welcome: Welcome): void;
}

interface Peer {
  controller: string;
  session: KeptStream<AgentMessage, ControllerMessage>;
  outbox: Outbox;
  /** It has answered the hello of the stream that is open: a hello that was only written may be behind the end of another stream. */
  welcomed: boolean;
}

/** This agent's streams to all controllers. Reports go to each of them: every appliance steers on its own. */
export class AgentLink {
  readonly #handlers: LinkHandlers;
  readonly #peers: Peer[];
  readonly #relations: Relations;
  #batches = 0;
  #load: LoadReport | undefined;
  #repeat: NodeJS.Timeout | undefined;
  #left: () => void = () => {};
  #greeted: () => void = () => {};

  /** @param controllers id and gRPC target (`HOST:PORT` or `unix:PATH`) of each; linkTargets() reads a configuration. */
  constructor(controllers: { id: string; target: string }[], handlers: LinkHandlers) {
    this.#handlers = handlers;
    this.#peers = controllers.map(({ id, target }) => {
      const peer: Peer = {
        controller: id,
        outbox: new Outbox(),
        welcomed: false,
        session: new KeptStream(`controller ${id}`, () => openSession(target), {
          open: () => this.#opened(peer),
          message: (message) => this.#message(peer, message),
          closed: () => {
            peer.welcomed = false;
            this.#relations.closed(peer);
          },
        }),
      };
      return peer;
    });
    this.#relations = new Relations(this.#peers);
  }

  start(): void {
    for (const { session } of this.#peers) session.connect();
    this.#repeat = setInterval(() => {
      for (const peer of this.#peers) this.#flush(peer, Date.now() - repeatMs);
    }, repeatMs);
  }

  /** Ids of the controllers that are connected now. */
  connected(): string[] {
    return this.#peers.filter(({ session }) => session.open).map(({ controller }) => controller);
  }

  /** Results that some controller has not acknowledged yet. */
  unacknowledged(): number {
    return Math.max(0, ...this.#peers.map(({ outbox }) => outbox.results));
  }

  /** Leaves at once where connected; kept and repeated until each controller has acknowledged it. */
  reportTakenOver(takeoverId: string, results: TakeoverResult[]): void {
    if (results.length === 0) return;
    const batch: TakenOver = { batch: ++this.#batches, takeoverId, results };
    for (const peer of this.#peers) {
      const lost = peer.outbox.add(batch);
      if (lost > 0) log.error({ controller: peer.controller, lost }, "too many results wait for the controller");
      this.#flush(peer, 0);
    }
  }

  /** The last one is said again after a reconnection. */
  reportLoad(load: LoadReport): void {
    this.#load = load;
    for (const { session } of this.#peers) session.send({ load });
  }

  /**
   * From now on these flows go where the bundle's control connection goes, whose record is committed as this server's. Resolves when every
   * controller that is connected has said so. Throws RefusedError ("taken": another bundle has one of them); then none of the new ones is there.
   */
  relate(bundle: string, relations: Relation[], deadlineMs: number): Promise<void> {
    return this.#relations.relate(bundle, relations, deadlineMs);
  }

  /** The flows of a bundle that this process has from another one, as they are. */
  restateRelations(bundle: string, relations: Relation[]): void {
    this.#relations.restate(bundle, relations);
  }

  /** @param relations none: all of the bundle. Where the control connection ends, controllers see to it themselves: `forgetRelations` then. */
  unrelate(bundle: string, relations: Relation[] = []): void {
    this.#relations.unrelate(bundle, relations);
  }

  /** The bundle is over or another server's: controllers that connect later are not told of it any more. */
  forgetRelations(bundle: string): void {
    this.#relations.forget(bundle);
  }

  /** Asks a controller to move every connection away. Resolves when it has done what it could, or is not there, or time is over. */
  async leave(timeoutMs: number): Promise<void> {
    const peer = this.#peers.find(({ session }) => session.open);
    if (!peer) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#left = () => {
        clearTimeout(timer);
        resolve();
      };
      peer.session.send({ drain: { timeoutMs } });
    });
  }

  /** Resolves when every controller takes this process for its agent, or time is over. */
  async greeted(timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#greeted = () => {
        if (this.#peers.some(({ welcomed }) => !welcomed)) return;
        clearTimeout(timer);
        resolve();
      };
      this.#greeted();
    });
  }

  /**
   * Another process of this agent is about to greet the controllers: they end these streams then, without taking that for a sign
   * of anything. A stream that was made again would displace the other's.
   */
  retire(): void {
    clearInterval(this.#repeat);
    for (const { session } of this.#peers) session.retire();
  }

  /** Says goodbye and ends the streams. */
  close(reason: string): void {
    clearInterval(this.#repeat);
    for (const { session } of this.#peers) {
      session.send({ bye: { reason } });
      session.close();
    }
  }

  #opened(peer: Peer): void {
    peer.session.send({ hello: this.#handlers.hello() });
    if (this.#load) peer.session.send({ load: this.#load });
    this.#relations.opened(peer);
    this.#flush(peer, Number.POSITIVE_INFINITY);
  }

  /** Sends what was not sent since `before`. */
  #flush({ session, outbox }: Peer, before: number): void {
    if (!session.open) return;
    for (const takenOver of outbox.due(before, Date.now())) session.send({ takenOver });
  }

  #message(peer: Peer, message: ControllerMessage): void {
    if (message.takenOverAck) peer.outbox.acknowledge(message.takenOverAck.batch);
    else if (message.describe) void this.#describe(peer, message.describe);
    else if (message.adopt) void this.#adopt(peer, message.adopt);
    else if (message.prepare) void this.#prepare(peer, message.prepare);
    else if (message.freeze) this.#handlers.freeze(message.freeze);
    else if (message.drained) this.#left();
    else if (message.related) this.#relations.answered(peer, message.related);
    else if (message.cancel) this.#handlers.cancel(message.cancel.migration);
    else if (message.welcome) this.#welcome(peer, message.welcome);
  }

  #welcome(peer: Peer, welcome: Welcome): void {
    peer.welcomed = true;
    this.#handlers.welcome(peer.controller, welcome);
    this.#greeted();
  }

  async #describe({ session }: Peer, request: Describe): Promise<void> {
    try {
      const connections = await this.#handlers.describe(request);
      session.send({ described: { request: request.request, connections } });
    } catch (error) {
      log.error({ err: error }, "describing connections failed"); // the controller's wait is bounded
    }
  }

  async #prepare({ session }: Peer, request: Prepare): Promise<void> {
    const answer = await this.#handlers.prepare(request).catch((error: Error) => {
      log.error({ err: error }, "preparing for a connection failed");
      return { request: request.request, ready: false, reason: error.message, elapsedUs: 0 };
    });
    session.send({ prepared: answer });
  }

  async #adopt({ session }: Peer, request: Adopt): Promise<void> {
    let result: TakeoverResult;
    try {
      result = await this.#handlers.adopt(request);
    } catch (error) {
      const { flow, from } = request;
      const reason = error instanceof Error ? error.message : String(error);
      result = { connectionId: "", flow, result: "failed", reason, phasesUs: {}, epoch: 0, from };
    }
    session.send({ adopted: { request: request.request, result } });
  }
}

function openSession(target: string) {
  const client = agentLinkClient(target, { "grpc.use_local_subchannel_pool": 1 });
  return { client, stream: client.session(new Metadata({ waitForReady: true })) };
}

/** Where the controllers of a configuration take agents. */
export function linkTargets(config: Config): { id: string; target: string }[] {
  return config.controllers.map(({ id, listen }) => ({ id, target: listen }));
}
