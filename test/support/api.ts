import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { AgentSessions } from "../../controller/agents/index.js";
import { ApiServer, type ControlModel } from "../../controller/api/index.js";
import { EventLog } from "../../controller/events/index.js";
import type { ConnectionDetail, ConnectionMessage, ServerMessage, StatusMessage } from "../../proto/rpc/index.js";
import { testDirectory } from "./directory.js";
import { freeAddress } from "./listen.js";

export const server: ServerMessage = {
  id: "s1",
  state: "UP",
  connections: 2,
  load: { cpu: 0.25, pressure: 1.5, loopDelayMs: 2.25, egressBytesPerSecond: 2048 },
  leaseAgeMs: 12.4,
  reason: "",
  incarnation: 3,
  generation: 4,
  slot: 1,
  addresses: ["10.77.0.101"],
  contentReady: true,
  overloadIndex: 0.25,
};

export const connection: ConnectionMessage = {
  id: "10-77-0-10_51234_10-77-0-100_80_tcp.2886723411",
  client: "10.77.0.10:51234",
  vip: "10.77.0.100:80",
  transport: "tcp",
  protocol: "http",
  owner: "s1",
  epoch: 2,
  phase: "LIVE",
  ageSeconds: 75,
  bytesSent: 5_000_000_000,
  bytesReceived: 80,
  bundle: "",
  object: "/big.bin",
  offset: 4_999_999_700,
  protected: false,
  reason: "digest pending",
};

export const detail: ConnectionDetail = {
  connection,
  initialSeq: { client: 2886723411, server: 4294967290 },
  currentSeq: { client: 2886723492, server: 195 },
  firstByteSeq: 300,
  serverId: "s1",
  takenAt: "2026-11-22T10:20:30.123456Z",
  layers: [{ layer: "tcp", version: 1, stateJson: '{"mss":1448}' }],
  history: [
    { time: "2026-11-22T10:20:30.000001Z", timeUs: 1, what: "unready", layer: "http", detail: "", server: "s2" },
  ],
  related: [],
};

export const status: StatusMessage = {
  version: "0.1.0",
  leader: "lb1",
  servers: [server],
  vips: ["10.77.0.100", "fd77::100"],
  services: [{ name: "http", port: 80, protocol: "http" }],
  problems: ["s2 is DOWN: its lease ran out."],
  store: { url: "nats://10.77.0.1:4222", connected: true, embedded: true },
  verdicts: { FORWARD: 10 },
  connections: 1,
};

/** A controller's API with fixed answers. */
export class FakeApi {
  readonly agents = new AgentSessions();
  readonly socket: string;
  readonly events: EventLog;
  connections: ConnectionMessage[] = [connection, { ...connection, id: "other", owner: "s2", client: "[fd77::10]:5" }];
  #server: ApiServer | undefined;
  #listen = "";

  constructor(t: ExecutionContext) {
    const directory = testDirectory(t);
    this.socket = join(directory, "api.sock");
    this.events = new EventLog(directory);
    t.teardown(async () => {
      await this.stop();
      await this.events.close();
    });
  }

  get target(): string {
    return `unix:${this.socket}`;
  }

  get listen(): string {
    return this.#listen;
  }

  async start(): Promise<this> {
    const control: ControlModel = {
      status: () => status,
      servers: () => [server],
      connections: (filter) => this.connections.filter(({ owner }) => filter.server === "" || filter.server === owner),
      connection: async (id) => (id === connection.id ? detail : undefined),
      events: this.events,
      move: async (id, to) => this.events.append({ kind: "migration", connection: id, to, result: "ok" }),
      drain: async function* () {
        yield { moved: 1, remaining: 1, finished: false, reasons: {} };
        yield { moved: 2, remaining: 0, finished: true, reasons: {} };
      },
      undrain: () => {},
    };
    this.#listen ||= await freeAddress();
    const { socket, agents } = this;
    this.#server = await ApiServer.start({ socket, listen: this.#listen, control, agents });
    return this;
  }

  async stop(): Promise<void> {
    await this.#server?.close();
    this.#server = undefined;
  }
}
