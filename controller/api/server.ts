import { mkdirSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { BatonError } from "../../proto/errors.js";
import { agentLinkService, channelOptions, controlService } from "../../proto/rpc/index.js";
import type { AgentSessions } from "../agents/index.js";
import { controlHandlers } from "./control.js";
import type { ControlModel } from "./model.js";

export interface ApiOptions {
  /** ADDRESS:PORT */
  listen: string;
  /** Path of the Unix socket. */
  socket: string;
  control: ControlModel;
  agents: AgentSessions;
}

/** gRPC for operators and agents, on a Unix socket and a TCP address. */
export class ApiServer {
  readonly #server: Server;
  readonly #agents: AgentSessions;

  private constructor(server: Server, agents: AgentSessions) {
    this.#server = server;
    this.#agents = agents;
  }

  /** Throws PORT_TAKEN when somebody else listens there, NOT_PERMITTED or INTERNAL when it cannot listen at all. */
  static async start({ listen, socket, control, agents }: ApiOptions): Promise<ApiServer> {
    const server = new Server(channelOptions);
    server.addService(controlService, controlHandlers(control));
    server.addService(agentLinkService, agents.handlers());
    try {
      await freeSocket(socket);
      mkdirSync(dirname(socket), { recursive: true });
      await bind(server, `unix:${socket}`);
      await bind(server, listen);
    } catch (error) {
      server.forceShutdown();
      throw error;
    }
    return new ApiServer(server, agents);
  }

  /** Ends all calls. */
  async close(): Promise<void> {
    this.#agents.close();
    this.#server.forceShutdown();
  }
}

function bind(server: Server, target: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.bindAsync(target, ServerCredentials.createInsecure(), (error) => {
      if (!error) return resolve();
      const { message } = error;
      if (message.includes("EADDRINUSE")) {
        return reject(new BatonError("PORT_TAKEN", `The API cannot listen on ${target}: it is in use.`, error));
      }
      if (message.includes("EADDRNOTAVAIL")) {
        return reject(
          new BatonError("PORT_TAKEN", `The API cannot listen on ${target}: this host has no such address.`, error),
        );
      }
      const code = message.includes("EACCES") ? "NOT_PERMITTED" : "INTERNAL";
      reject(new BatonError(code, `The API cannot listen on ${target}: ${message.split("\n")[0]}.`, error));
    });
  });
}

/** A killed controller leaves its socket file behind, and bind() would refuse it. One that is in use stays. */
async function freeSocket(path: string): Promise<void> {
  if (!statSync(path, { throwIfNoEntry: false })?.isSocket()) return;
  const used = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    const answer = (value: boolean) => {
      probe.destroy();
      resolve(value);
    };
    probe.once("connect", () => answer(true));
    probe.once("error", () => answer(false));
  });
  if (used) throw new BatonError("PORT_TAKEN", `Another controller listens on ${path}.`);
  rmSync(path, { force: true });
}
