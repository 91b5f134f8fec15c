import test from "ava";
import {
  type AgentMessage,
  agentLinkService,
  type ConnectionDetail,
  type ConnectionMessage,
  type ControllerMessage,
  controlService,
  type EventMessage,
  type FlowMessage,
  type FrozenConnection,
  type HandoverRequest,
  handoverService,
  type ServerMessage,
  type StatusMessage,
  type TakeoverResult,
} from "../../proto/rpc/index.js";

interface Codec {
  serialize(value: unknown): Buffer;
  deserialize(bytes: Buffer): unknown;
}
const method = (definition: unknown) => {
  const { requestSerialize, requestDeserialize, responseSerialize, responseDeserialize } = definition as Record<
    "requestSerialize" | "responseSerialize",
    Codec["serialize"]
  > &
    Record<"requestDeserialize" | "responseDeserialize", Codec["deserialize"]>;
  return {
    request: { serialize: requestSerialize, deserialize: requestDeserialize },
    answer: { serialize: responseSerialize, deserialize: responseDeserialize },
  };
};
const session = method(agentLinkService.Session);
const back = ({ serialize, deserialize }: Codec, value: unknown) => deserialize(serialize(value));

const flow: FlowMessage = {
  clientAddress: Buffer.from([10, 0, 0, 1]),
  clientPort: 51234,
  vipAddress: Buffer.alloc(16, 7),
  vipPort: 80,
  transport: "TCP",
};
const result: TakeoverResult = {
  connectionId: "c.1",
  flow,
  result: "ok",
  reason: "r",
  phasesUs: { UNREADY: 5, LIVE: 2 ** 40 },
  epoch: 3,
  from: "s1",
};

// A value for every field: one that the .proto lacks, or has under another name, does not come back.
const fromAgent: AgentMessage[] = [
  {
    hello: {
      serverId: "s1",
      incarnation: 2 ** 45,
      mac: Buffer.alloc(6, 1),
      addresses: ["a"],
      services: ["h"],
      version: "v",
      pid: 9,
    },
  },
  { takenOver: { batch: 7, takeoverId: "t", results: [result] } },
  {
    load: {
      cpu: 0.5,
      pressure: 1.5,
      loopDelayMs: 2.5,
      egressBytesPerSecond: 1e9,
      connections: 3,
      problems: ["p"],
      contentReady: true,
      cores: 1.5,
      linkBytesPerSecond: 125e6,
      cpuWaiting: 0.25,
      unhealthy: [{ service: "http", reason: "r" }],
      guardUsed: 0.5,
      workerCpu: 0.125,
    },
  },
  {
    described: {
      request: 1,
      connections: [
        {
          id: "i",
          phase: "RESUMED_ON_OLD",
          bytesSent: 2 ** 40,
          bytesReceived: 1,
          clientSeq: 4294967295,
          serverSeq: 2147483648,
          object: "/o",
          objectOffset: 2 ** 33,
          firstByteSeq: 4000000000,
          isProtected: true,
          reason: "r",
          ageSeconds: 1.25,
          history: [{ timeUs: 1_790_000_000_000_001, what: "w", layer: "tcp", detail: "d" }],
          tcpState: 1,
          outstanding: 2 ** 33,
        },
      ],
    },
  },
  { adopted: { request: 2, result } },
  { bye: { reason: "r" } },
  { prepared: { request: 4, ready: true, reason: "r", elapsedUs: 5 } },
  { drain: { timeoutMs: 6 } },
  { relate: { request: 5, bundle: "c.1", relations: [{ transport: "UDP", vipPort: 30000, clientPort: 5004 }] } },
  { unrelate: { bundle: "c.1", relations: [{ transport: "TCP", vipPort: 30001, clientPort: 0 }] } },
];
for (const message of fromAgent) {
  const [what = ""] = Object.keys(message);
  test(`agent message ${what} comes back`, (t) => {
    t.deepEqual(back(session.request, message), { what, ...message });
  });
}

const toAgent: ControllerMessage[] = [
  { welcome: { slot: 1, generation: 2, controllerId: "lb1", mac: Buffer.from("02000000000a", "hex") } },
  { takenOverAck: { batch: 3 } },
  { prepare: { request: 7, migration: "m", connectionId: "c.1" } },
  { freeze: { migration: "m", connectionId: "c.1", target: "s2", deadlineMs: 8 } },
  { cancel: { migration: "m" } },
  { drained: { remaining: 9 } },
  { related: { request: 5, ok: true, reason: "r" } },
  { describe: { request: 1, connectionIds: ["a", "b"], all: true, detail: true } },
  {
    adopt: {
      request: 4,
      flow,
      clientIsn: 4294967295,
      clientAck: 1,
      mss: 1448,
      windowScale: 255,
      sack: true,
      timestamps: true,
      clientTsval: 5,
      clientTsecr: 6,
      takeoverId: "t",
      from: "s1",
    },
  },
];
for (const message of toAgent) {
  const [what = ""] = Object.keys(message);
  test(`controller message ${what} comes back`, (t) => {
    t.deepEqual(back(session.answer, message), { what, ...message });
  });
}

test("what agents hand to each other comes back", (t) => {
  const handover = method(handoverService.Session);
  const frozen: FrozenConnection = {
    record: Buffer.from("record"),
    revision: 2 ** 40,
    socket: {
      ...{ sendUna: 1, sendNext: 2, windowWl1: 3, windowSend: 4, windowMax: 5 },
      ...{ timestampClock: 2 ** 32 - 1, timestampUsec: true, nodelay: true, keepalive: true, keepIdleS: 8 },
      ...{ keepIntervalS: 9, keepCount: 10, congestion: "bbr", acknowledged: 12, echo: 13, unread: Buffer.from("u") },
    },
  };
  const request: HandoverRequest = { ...frozen, migration: "m", deadlineMs: 1000, related: [frozen] };
  t.deepEqual(back(handover.request, request), request);
  const reply = { migration: "m", committed: true, reason: "r" };
  t.deepEqual(back(handover.answer, reply), reply);
});

const server: ServerMessage = {
  id: "s1",
  state: "UP",
  connections: 1,
  load: { cpu: 1, pressure: 2, loopDelayMs: 3, egressBytesPerSecond: 4 },
  leaseAgeMs: 12.5,
  reason: "r",
  incarnation: 3,
  generation: 4,
  slot: 5,
  addresses: ["10.77.0.101"],
  contentReady: true,
  overloadIndex: 0.5,
};
const connection: ConnectionMessage = {
  id: "i",
  client: "[fd77::10]:1",
  vip: "[fd77::100]:80",
  transport: "tcp",
  protocol: "http",
  owner: "s1",
  epoch: 1,
  phase: "LIVE",
  ageSeconds: 0.5,
  bytesSent: 2 ** 40,
  bytesReceived: 2,
  bundle: "b",
  object: "/o",
  offset: 2 ** 33,
  protected: true,
  reason: "r",
};
const status: StatusMessage = {
  version: "1",
  leader: "lb1",
  servers: [server],
  vips: ["10.77.0.100"],
  services: [{ name: "http", port: 80, protocol: "http" }],
  problems: ["p"],
  store: { url: "nats://x", connected: true, embedded: true },
  verdicts: { FORWARD: 2 ** 40 },
  connections: 7,
};
const detail: ConnectionDetail = {
  connection,
  initialSeq: { client: 4294967295, server: 1 },
  currentSeq: { client: 2, server: 4294967294 },
  firstByteSeq: 4000000000,
  serverId: "s1",
  takenAt: "2026-11-22T00:00:00.000000Z",
  layers: [{ layer: "tcp", version: 1, stateJson: "{}" }],
  history: [{ time: "t", timeUs: 5, what: "w", layer: "l", detail: "d", server: "s1" }],
  related: [connection],
};
const event: EventMessage = {
  time: "t",
  kind: "takeover",
  connection: "c",
  bundle: "b",
  from: "s1",
  to: "s2",
  result: "ok",
  reason: "r",
  phases: { HELD: 1 },
  heldPackets: 2,
  heldUs: 3,
};
const answers: [string, unknown, unknown][] = [
  ["GetStatus", controlService.GetStatus, status],
  ["ListServers", controlService.ListServers, { servers: [server] }],
  ["ListConnections", controlService.ListConnections, connection],
  ["GetConnection", controlService.GetConnection, detail],
  ["WatchEvents", controlService.WatchEvents, event],
];
for (const [name, definition, message] of answers) {
  test(`the answer to ${name} comes back`, (t) => {
    t.deepEqual(back(method(definition).answer, message), message as object);
  });
}
