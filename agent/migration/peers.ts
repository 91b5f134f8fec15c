import { Metadata, Server, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import { BatonError } from "../../proto/errors.js";
import {
  channelOptions,
  type HandoverReply,
  type HandoverRequest,
  handoverClient,
  handoverService,
  KeptStream,
} from "../../proto/rpc/index.js";

const POLL_MS = 10;

type Stream = KeptStream<HandoverRequest, HandoverReply>;

/** The streams to all other agents, open ahead of the first handover. */
export class Peers {
  private readonly streams = new Map<string, Stream>();

  constructor(servers: Array<{ id: string; target: string }>, answered: (reply: HandoverReply) => void) {
    for (const { id, target } of servers) {
      const stream: Stream = new KeptStream(`agent ${id}`, () => openSession(target), {
        open: () => {},
        message: answered,
        closed: () => {}, // whoever waits for an answer has a deadline
      });
      this.streams.set(id, stream);
      stream.connect();
    }
  }

  /** Whether the stream is there; waits for it if it is not. */
  async connected(server: string, withinMs: number): Promise<boolean> {
    const deadline = performance.now() + withinMs;
    while (!this.streams.get(server)?.open) {
      if (performance.now() > deadline) return false;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    return true;
  }

  send(server: string, request: HandoverRequest): void {
    this.streams.get(server)?.send(request);
  }
}

function openSession(target: string) {
  const client = handoverClient(target, { "grpc.use_local_subchannel_pool": 1 });
  return { client, stream: client.session(new Metadata({ waitForReady: true })) };
}

/**
 * Takes other agents' connections.
 * @param listen ADDRESS:PORT
 * @param arrive what comes is answered by `reply`, in any order. Throws PORT_TAKEN.
 * @returns what ends it at once
 */
export async function acceptHandovers(
  listen: string,
  arrive: (request: HandoverRequest, reply: (reply: HandoverReply) => void) => void,
): Promise<{ close(): void }> {
  const server = new Server(channelOptions);
  server.addService(handoverService, {
    session: (stream: ServerDuplexStream<HandoverRequest, HandoverReply>) => {
      stream.sendMetadata(new Metadata()); // at once: the stream is open before anything is said
      stream.on("data", (request: HandoverRequest) => arrive(request, (reply) => void stream.write(reply)));
      stream.on("error", () => {}); // the other side opens another one
      stream.on("end", () => stream.end());
    },
  });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(listen, ServerCredentials.createInsecure(), (error) => {
      if (error)
        reject(new BatonError("PORT_TAKEN", `Handovers cannot be taken on ${listen}: ${error.message}.`, error));
      else resolve();
    });
  });
  return { close: () => server.forceShutdown() };
}
