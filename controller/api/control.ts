import { once } from "node:events";
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  Metadata,
  type ServerWritableStream,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { BatonError, type ErrorCode } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import type { ConnectionMessage, DrainProgressMessage, EventMessage } from "../../proto/rpc/index.js";
import type { ConnectionFilter, ControlModel } from "./model.js";

const log = logger("api");

/** The handlers of the Control service. */
export function controlHandlers(model: ControlModel): UntypedServiceImplementation {
  return {
    getStatus: unary(async () => await model.status()),
    listServers: unary(async () => ({ servers: await model.servers() })),
    listConnections: streaming((request: ConnectionFilter) => model.connections(request)),
    getConnection: unary(async ({ id }: { id: string }) => {
      const detail = await model.connection(id);
      if (!detail) throw new BatonError("NOT_FOUND", `There is no connection "${id}".`);
      return detail;
    }),
    watchEvents: streaming(({ follow, limit }: { follow: boolean; limit: number }) =>
      follow ? model.events.follow(limit) : model.events.recent(limit),
    ),
    move: unary(async ({ id, to, dryRun }: { id: string; to: string; dryRun: boolean }) => ({
      event: await model.move(id, to, dryRun),
    })),
    drain: streaming(({ server, timeoutMs, dryRun }: { server: string; timeoutMs: number; dryRun: boolean }) =>
      model.drain(server, timeoutMs, dryRun),
    ),
    undrain: unary(async ({ server }: { server: string }) => (await model.undrain(server)) ?? {}),
  };
}

function unary<Q, A>(answer: (request: Q) => Promise<A>): handleUnaryCall<Q, A> {
  return (call, done) => {
    answer(call.request).then(
      (value) => done(null, value),
      (error: unknown) => done(grpcError(error)),
    );
  };
}

function streaming<Q, A extends ConnectionMessage | EventMessage | DrainProgressMessage>(
  items: (request: Q) => Iterable<A> | AsyncIterable<A>,
): handleServerStreamingCall<Q, A> {
  return (call) => {
    pump(call, items).catch((error: unknown) => call.emit("error", grpcError(error)));
  };
}

/** Writes as fast as the client reads; a client that leaves ends the source as well. */
async function pump<Q, A>(call: ServerWritableStream<Q, A>, items: (request: Q) => Iterable<A> | AsyncIterable<A>) {
  const source = items(call.request);
  const gone = new AbortController();
  call.on("cancelled", () => {
    gone.abort();
    if (Symbol.asyncIterator in source) void (source as AsyncIterableIterator<A>).return?.();
  });
  // Headers now: a follower of a quiet log should know that it is connected.
  call.sendMetadata(new Metadata());
  for await (const item of source) {
    if (gone.signal.aborted) return;
    if (!call.write(item)) await once(call, "drain", { signal: gone.signal }).catch(() => undefined);
  }
  call.end();
}

const statusOf: Partial<Record<ErrorCode, status>> = {
  NOT_FOUND: status.NOT_FOUND,
  CONNECTION_ID_INVALID: status.INVALID_ARGUMENT,
  STORE_UNAVAILABLE: status.UNAVAILABLE,
  DEADLINE_PASSED: status.DEADLINE_EXCEEDED,
  LIMIT_REACHED: status.RESOURCE_EXHAUSTED,
  UNSUPPORTED: status.FAILED_PRECONDITION,
};

function grpcError(error: unknown): { code: status; details: string } {
  if (error instanceof BatonError) return { code: statusOf[error.code] ?? status.INTERNAL, details: error.message };
  log.error({ err: error }, "a call failed");
  return { code: status.INTERNAL, details: "The controller failed to answer; its log says why." };
}
