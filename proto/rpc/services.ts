import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { root } from "../paths.js";
import type {
  AgentMessage,
  ConnectionDetail,
  ConnectionMessage,
  ControllerMessage,
  DrainProgressMessage,
  EventMessage,
  HandoverReply,
  HandoverRequest,
  ServerMessage,
  StatusMessage,
} from "./messages.js";

const definition = loadSync(["baton/v1/agent.proto", "baton/v1/control.proto"], {
  includeDirs: [join(root, "proto")],
  keepCase: false,
  longs: Number,
  enums: String,
  defaults: true,
  arrays: true,
  objects: true,
  oneofs: true,
});
const { baton } = grpc.loadPackageDefinition(definition) as unknown as {
  baton: { v1: Record<"AgentLink" | "Handover" | "Control", grpc.ServiceClientConstructor> };
};

/** Between an agent and a controller; agent.proto. */
export const agentLinkService = baton.v1.AgentLink.service;
/** Between two agents; agent.proto. */
export const handoverService = baton.v1.Handover.service;
/** For operators; control.proto. */
export const controlService = baton.v1.Control.service;

export interface AgentLinkClient extends grpc.Client {
  session(metadata: grpc.Metadata): grpc.ClientDuplexStream<AgentMessage, ControllerMessage>;
}
export interface HandoverClient extends grpc.Client {
  session(metadata: grpc.Metadata): grpc.ClientDuplexStream<HandoverRequest, HandoverReply>;
}
export interface ControlClient extends grpc.Client {
  getStatus(
    request: object,
    options: grpc.CallOptions,
    done: grpc.requestCallback<StatusMessage>,
  ): grpc.ClientUnaryCall;
  listServers(
    request: object,
    options: grpc.CallOptions,
    done: grpc.requestCallback<{ servers: ServerMessage[] }>,
  ): grpc.ClientUnaryCall;
  listConnections(
    request: { server: string; protocol: string },
    options?: grpc.CallOptions,
  ): grpc.ClientReadableStream<ConnectionMessage>;
  getConnection(
    request: { id: string },
    options: grpc.CallOptions,
    done: grpc.requestCallback<ConnectionDetail>,
  ): grpc.ClientUnaryCall;
  watchEvents(
    request: { follow: boolean; limit: number },
    options?: grpc.CallOptions,
  ): grpc.ClientReadableStream<EventMessage>;
  move(
    request: { id: string; to: string; dryRun: boolean },
    options: grpc.CallOptions,
    done: grpc.requestCallback<{ event: EventMessage }>,
  ): grpc.ClientUnaryCall;
  drain(
    request: { server: string; timeoutMs: number; dryRun: boolean },
    options?: grpc.CallOptions,
  ): grpc.ClientReadableStream<DrainProgressMessage>;
  undrain(
    request: { server: string },
    options: grpc.CallOptions,
    done: grpc.requestCallback<object>,
  ): grpc.ClientUnaryCall;
}

/**
 * Notices a peer whose host is gone within some seconds, and is used by both ends. Who is dead is for the leases to say, within
 * a tenth of that: a peer that is only busy must not lose its stream, an agent would be no heir without it. Nothing is sent over a proxy that
 * the environment names: appliances, servers and stores are reached directly.
 */
export const channelOptions: grpc.ChannelOptions = {
  "grpc.keepalive_time_ms": 1000,
  "grpc.keepalive_timeout_ms": 3000,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.max_receive_message_length": 64 * 1024 * 1024,
  "grpc.max_send_message_length": 64 * 1024 * 1024,
  "grpc.enable_http_proxy": 0,
};

/** @param target `unix:PATH` or `HOST:PORT`; nothing is connected before the first call. */
export function agentLinkClient(target: string, options: grpc.ChannelOptions = {}): AgentLinkClient {
  return new baton.v1.AgentLink(target, grpc.credentials.createInsecure(), {
    ...channelOptions,
    ...options,
  }) as unknown as AgentLinkClient;
}

/** @param target `HOST:PORT`; nothing is connected before the first call. */
export function handoverClient(target: string, options: grpc.ChannelOptions = {}): HandoverClient {
  return new baton.v1.Handover(target, grpc.credentials.createInsecure(), {
    ...channelOptions,
    ...options,
  }) as unknown as HandoverClient;
}

/** @param target `unix:PATH` or `HOST:PORT`; nothing is connected before the first call. */
export function controlClient(target: string, options: Partial<grpc.ClientOptions> = {}): ControlClient {
  return new baton.v1.Control(target, grpc.credentials.createInsecure(), {
    ...channelOptions,
    ...options,
  }) as unknown as ControlClient;
}
