import { EventEmitter } from "node:events";
import type { UntypedServiceImplementation } from "@grpc/grpc-js";
import { BatonError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import type {
  Adopt,
  AgentHello,
  AgentMessage,
  ControllerMessage,
  DescribeAnswer,
  LiveConnection,
  LoadReport,
  Prepare,
  PrepareAnswer,
  Relate,
  TakenOver,
  TakeoverResult,
  Unrelate,
} from "../../proto/rpc/index.js";
import { AgentSession, type AgentStream, accept, SeenBatches } from "./session.js";

const log = logger("agents");

export interface ConnectedAgent {
  server: string;
  hello: AgentHello;
  /** undefined until the first report. */
  load: LoadReport | undefined;
  /** When that came, by performance.now(). */
  loadAtMs: number;
  /** Unix time, milliseconds. */
  connectedAt: number;
}

interface Events {
  /** An agent (re)connected. Answer with send(server, {welcome}). */
  hello: [server: string, hello: AgentHello];
  /** A batch, once. Call `acknowledge` when it is acted on; the agent says it again until then. After `fail` it is news again. */
  takenOver: [server: string, batch: TakenOver, acknowledge: () => void, fail: () => void];
  load: [server: string, load: LoadReport];
  /** An answer to adopt() that came after its deadline. */
  adopted: [server: string, result: TakeoverResult];
  /** It is being stopped and wants to be empty first. Answer with send(server, {drained}). */
  leaving: [server: string, timeoutMs: number];
  /** Flows are to go where a connection of it goes. Call `answer` with why not, or "". */
  relate: [server: string, request: Relate, answer: (reason: string) => void];
  unrelate: [server: string, request: Unrelate];
  /** The stream is over. Suspicion at most, never a proof of death. */
  closed: [server: string, incarnation: number, reason: string];
}

/** The agents that are connected to this controller. */
export class AgentSessions extends EventEmitter<Events> {
  readonly #sessions = new Map<string, AgentSession>();
  readonly #batches = new Map<string, { process: string; seen: SeenBatches }>();
  #requests = 0;

  /** The handlers of the AgentLink service. */
  handlers(): UntypedServiceImplementation {
    return { session: (stream: AgentStream) => this.#accept(stream) };
  }

  list(): ConnectedAgent[] {
    return [...this.#sessions].map(([server, session]) => connected(server, session));
  }

  get(server: string): ConnectedAgent | undefined {
    const session = this.#sessions.get(server);
    return session && connected(server, session);
  }

  /** Whether the message went out; false when the agent is not connected. */
  send(server: string, message: ControllerMessage): boolean {
    return this.#sessions.get(server)?.send(message) ?? false;
  }

  /** What the agent knows now of its connections. An agent that is not there or not in time knows nothing. */
  async describe(
    server: string,
    what: { ids?: string[]; all?: boolean; detail?: boolean },
    timeoutMs: number,
  ): Promise<LiveConnection[]> {
    const session = this.#sessions.get(server);
    if (!session) return [];
    const request = ++this.#requests;
    const answer = session.wait(request, timeoutMs);
    const { ids = [], all = false, detail = false } = what;
    if (!session.send({ describe: { request, connectionIds: ids, all, detail } })) session.answer(request, undefined);
    return ((await answer) as DescribeAnswer | undefined)?.connections ?? [];
  }

  /** Lets an agent take a connection that has no record. Throws AGENT_UNAVAILABLE, also when no answer came in time. */
  async adopt(server: string, what: Omit<Adopt, "request">, timeoutMs: number): Promise<TakeoverResult> {
    const session = this.#sessions.get(server);
    const request = ++this.#requests;
    const answer = session?.wait(request, timeoutMs);
    if (!session?.send({ adopt: { ...what, request } })) session?.answer(request, undefined);
    const result = (await answer) as TakeoverResult | undefined;
    if (!result) throw new BatonError("AGENT_UNAVAILABLE", `The agent of ${server} did not answer.`);
    return result;
  }

  /** Asks an agent whether it could go on with a connection. An agent that is not there or not in time says no. */
  async prepare(server: string, what: Omit<Prepare, "request">, timeoutMs: number): Promise<PrepareAnswer> {
    const session = this.#sessions.get(server);
    const request = ++this.#requests;
    const answer = session?.wait(request, timeoutMs);
    if (!session?.send({ prepare: { ...what, request } })) session?.answer(request, undefined);
    const none = { request, ready: false, reason: `the agent of ${server} did not answer`, elapsedUs: 0 };
    return ((await answer) as PrepareAnswer | undefined) ?? none;
  }

  close(): void {
    for (const session of this.#sessions.values()) session.close();
    this.#sessions.clear();
  }

  #accept(stream: AgentStream): void {
    let session: AgentSession | undefined;
    accept(stream);
    stream.on("data", (message: AgentMessage) => {
      if (message.hello) session = this.#hello(stream, message.hello, session);
      else if (session) this.#message(session, message);
      else stream.destroy(new BatonError("PROTOCOL_VIOLATED", "An agent must begin with hello."));
    });
    const over = (reason: string) => {
      if (!session) return;
      const { hello } = session;
      const server = hello.serverId;
      session.close();
      // Only the current session's end counts: a reconnected agent has replaced this one already.
      if (this.#sessions.get(server) === session) {
        this.#sessions.delete(server);
        this.emit("closed", server, hello.incarnation, reason);
      }
      session = undefined;
    };
    stream.on("end", () => {
      stream.end();
      over("ended by the agent");
    });
    stream.on("cancelled", () => over("connection lost"));
    stream.on("error", (error: Error) => over(error.message));
  }

  /** @param former the session of this very stream, when the agent says hello again: its incarnation changed. */
  #hello(stream: AgentStream, hello: AgentHello, former: AgentSession | undefined): AgentSession {
    const server = hello.serverId;
    const session = former ?? new AgentSession(stream, hello);
    session.hello = hello;
    const replaced = this.#sessions.get(server);
    if (replaced !== session) replaced?.close();
    this.#sessions.set(server, session);
    const process = `${hello.incarnation}/${hello.pid}`;
    if (this.#batches.get(server)?.process !== process) {
      this.#batches.set(server, { process, seen: new SeenBatches() });
    }
    log.info({ server, incarnation: hello.incarnation, pid: hello.pid }, "agent connected");
    this.emit("hello", server, hello);
    return session;
  }

  #message(session: AgentSession, message: AgentMessage): void {
    const server = session.hello.serverId;
    if (message.takenOver) this.#takenOver(server, message.takenOver);
    else if (message.load) {
      session.load = message.load;
      session.loadAtMs = performance.now();
      this.emit("load", server, message.load);
    } else if (message.described) session.answer(message.described.request, message.described);
    else if (message.adopted?.result) {
      const { request, result } = message.adopted;
      if (!session.answer(request, result)) this.emit("adopted", server, result);
    } else if (message.prepared) session.answer(message.prepared.request, message.prepared);
    else if (message.relate) {
      const { request } = message.relate;
      const answer = (reason: string) => session.send({ related: { request, ok: reason === "", reason } });
      this.emit("relate", server, message.relate, answer);
    } else if (message.unrelate) this.emit("unrelate", server, message.unrelate);
    else if (message.drain) this.emit("leaving", server, message.drain.timeoutMs);
    else if (message.bye) log.info({ server, reason: message.bye.reason }, "agent leaves");
  }

  #takenOver(server: string, batch: TakenOver): void {
    const seen = this.#batches.get(server)?.seen;
    const acknowledge = () => {
      seen?.finish(batch.batch);
      // A process that was started meanwhile counts its batches anew.
      if (this.#batches.get(server)?.seen === seen) this.send(server, { takenOverAck: { batch: batch.batch } });
    };
    if (seen?.isFinished(batch.batch)) acknowledge();
    else if (seen?.begin(batch.batch)) this.emit("takenOver", server, batch, acknowledge, () => seen.fail(batch.batch));
  }
}

function connected(server: string, { hello, load, loadAtMs, connectedAt }: AgentSession): ConnectedAgent {
  return { server, hello, load, loadAtMs, connectedAt };
}
