import { InterceptingCall, type Interceptor } from "@grpc/grpc-js";
import type {
  ConnectionDetail,
  ConnectionMessage,
  ControlClient,
  DrainProgressMessage,
  EventMessage,
  ServerMessage,
  StatusMessage,
} from "../../proto/rpc/index.js";
import { controlClient } from "../../proto/rpc/index.js";
import { eventually } from "./eventually.js";

const CALL_MS = 5000;

/** A call waits for a controller that is being started, up to its deadline, instead of failing with the attempt under way. */
const waiting: Interceptor = (options, next) =>
  new InterceptingCall(next(options), {
    start(metadata, listener, start) {
      metadata.setOptions({ ...metadata.getOptions(), waitForReady: true });
      start(metadata, listener);
    },
  });
const patience = {
  interceptors: [waiting],
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 500,
};

/** The controller's API with promises; every call has a deadline. */
export class Control {
  readonly #client: ControlClient;
  readonly #followers: EventLog[] = [];

  /** @param target `unix:PATH` or `HOST:PORT` */
  constructor(target: string) {
    this.#client = controlClient(target, patience);
  }

  status(): Promise<StatusMessage> {
    return this.#unary((options, done) => this.#client.getStatus({}, options, done));
  }

  async servers(): Promise<ServerMessage[]> {
    return (
      await this.#unary<{ servers: ServerMessage[] }>((options, done) => this.#client.listServers({}, options, done))
    ).servers;
  }

  async connections(filter: { server?: string; protocol?: string } = {}): Promise<ConnectionMessage[]> {
    const found: ConnectionMessage[] = [];
    const request = { server: filter.server ?? "", protocol: filter.protocol ?? "" };
    for await (const one of this.#client.listConnections(request, { deadline: Date.now() + 4 * CALL_MS })) {
      found.push(one);
    }
    return found;
  }

  connection(id: string): Promise<ConnectionDetail> {
    return this.#unary((options, done) => this.#client.getConnection({ id }, options, done));
  }

  /** Throws where it cannot be tried. @returns the migration's event */
  async move(id: string, to: string): Promise<EventMessage> {
    const answer = await this.#unary<{ event: EventMessage }>((options, done) =>
      this.#client.move({ id, to, dryRun: false }, options, done),
    );
    return answer.event;
  }

  /** @returns the last word */
  async drain(server: string, timeoutMs: number): Promise<DrainProgressMessage> {
    let last: DrainProgressMessage | undefined;
    const request = { server, timeoutMs, dryRun: false };
    for await (const progress of this.#client.drain(request, { deadline: Date.now() + timeoutMs + CALL_MS })) {
      last = progress;
    }
    if (!last) throw new Error("a drain ended without a word");
    return last;
  }

  undrain(server: string): Promise<object> {
    return this.#unary((options, done) => this.#client.undrain({ server }, options, done));
  }

  /** The connection of this client's port, as soon as the controller knows it; `where` may ask for more. */
  connectionOf(
    clientPort: number,
    where: (connection: ConnectionMessage) => boolean = () => true,
    timeoutMs = 5000,
  ): Promise<ConnectionMessage> {
    return eventually(
      `a connection from port ${clientPort}`,
      async () => (await this.connections()).find((one) => one.client.endsWith(`:${clientPort}`) && where(one)),
      timeoutMs,
    );
  }

  /** Events that are kept already, oldest first. */
  async events(limit = 0): Promise<EventMessage[]> {
    const found: EventMessage[] = [];
    const stream = this.#client.watchEvents({ follow: false, limit }, { deadline: Date.now() + 4 * CALL_MS });
    for await (const one of stream) found.push(one);
    return found;
  }

  /** Every event from now on, also those that come before the first `next`. */
  follow(): EventLog {
    const follower = new EventLog(this.#client);
    this.#followers.push(follower);
    return follower;
  }

  /** Ends everything, also what a failed test still follows. */
  close(): void {
    for (const follower of this.#followers) follower.close();
    this.#client.close();
  }

  #unary<T>(
    call: (options: { deadline: number }, done: (error: Error | null, answer?: T) => void) => unknown,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      call({ deadline: Date.now() + CALL_MS }, (error, answer) => (error ? reject(error) : resolve(answer as T)));
    });
  }
}

/** A followed stream of events. A controller that dies ends the stream; it is opened again until `close`. */
export class EventLog {
  readonly seen: EventMessage[] = [];
  #closed = false;
  #cancel: () => void = () => {};

  constructor(client: ControlClient) {
    void this.#read(client);
  }

  async #read(client: ControlClient): Promise<void> {
    const began = new Date().toISOString();
    const known = new Set<string>();
    while (!this.#closed) {
      const stream = client.watchEvents({ follow: true, limit: 0 });
      this.#cancel = () => stream.cancel();
      try {
        for await (const event of stream as AsyncIterable<EventMessage>) {
          const identity = `${event.time} ${event.kind} ${event.connection} ${event.from} ${event.to}`;
          if (event.time < began || known.has(identity)) continue;
          known.add(identity);
          this.seen.push(event);
        }
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  /** The first event, seen already or yet to come, that fits. */
  next(what: string, fits: (event: EventMessage) => boolean, timeoutMs = 10_000): Promise<EventMessage> {
    return eventually(`event: ${what}`, () => this.seen.find(fits), timeoutMs);
  }

  close(): void {
    this.#closed = true;
    this.#cancel();
  }
}
