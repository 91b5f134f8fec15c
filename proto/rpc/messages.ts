import type { Phase } from "../vocabulary.js";

/**
 * The messages of agent.proto and control.proto as they are in memory: camelCase, 64-bit numbers as Number (they stay
 * below 2^53: byte counts, microseconds, counters), enums as their names, bytes as Buffer, absent messages as null.
 * test/unit/rpc.test compares them with the .proto files by a round trip.
 */

export type PhaseName = "PHASE_UNSPECIFIED" | Phase;

export interface FlowMessage {
  clientAddress: Buffer;
  clientPort: number;
  vipAddress: Buffer;
  vipPort: number;
  transport: "TRANSPORT_UNSPECIFIED" | "TCP" | "UDP";
}

// agent.proto, agent to controller

export interface AgentHello {
  serverId: string;
  incarnation: number;
  mac: Buffer;
  addresses: string[];
  services: string[];
  version: string;
  pid: number;
}

export interface TakeoverResult {
  connectionId: string;
  flow: FlowMessage | null;
  /** ok, resumedOnOld (a migration undone), refused, failed, finished (everything was acknowledged), gone (the client reset it) */
  result: string;
  reason: string;
  phasesUs: Record<string, number>;
  epoch: number;
  from: string;
}

/** `takeoverId` of batches about migrations; each result's `from` names its migration. */
export const MIGRATION = "migration";

export interface TakenOver {
  batch: number;
  takeoverId: string;
  results: TakeoverResult[];
}

export interface LoadReport {
  cpu: number;
  pressure: number;
  loopDelayMs: number;
  egressBytesPerSecond: number;
  connections: number;
  problems: string[];
  contentReady: boolean;
  /** That the host may use; 0: an agent of before, which does not say. */
  cores: number;
  /** Of its interface; 0: not known. */
  linkBytesPerSecond: number;
  /** Services that cannot be offered now. */
  unhealthy: ServiceProblem[];
  /** Share of the time in which something of the host waited for a core, since the last report. */
  cpuWaiting: number;
  /** Share of the guard's table that is taken, 0 to 1. */
  guardUsed: number;
  /** Cores used by the worker itself; 0: not said. */
  workerCpu: number;
}

export interface ServiceProblem {
  service: string;
  /** A phrase: "its directory /srv does not exist". */
  reason: string;
}

export interface HistoryEntry {
  timeUs: number;
  what: string;
  layer: string;
  detail: string;
}

export interface LiveConnection {
  id: string;
  phase: PhaseName;
  bytesSent: number;
  bytesReceived: number;
  clientSeq: number;
  serverSeq: number;
  object: string;
  objectOffset: number;
  firstByteSeq: number;
  isProtected: boolean;
  reason: string;
  ageSeconds: number;
  history: HistoryEntry[];
  tcpState: number;
  /** Bytes that were promised to the client and that it has not acknowledged; 0: it is idle. */
  outstanding: number;
}

export interface DescribeAnswer {
  request: number;
  connections: LiveConnection[];
}

export interface AdoptAnswer {
  request: number;
  result: TakeoverResult | null;
}

/** Exactly one of the members; on what was received, `what` names it. */
export interface AgentMessage {
  what?: string;
  hello?: AgentHello;
  takenOver?: TakenOver;
  load?: LoadReport;
  described?: DescribeAnswer;
  adopted?: AdoptAnswer;
  prepared?: PrepareAnswer;
  bye?: { reason: string };
  drain?: { timeoutMs: number };
  relate?: Relate;
  unrelate?: Unrelate;
}

/** A flow that goes where its control connection goes. Its addresses are that connection's. */
export interface Relation {
  transport: FlowMessage["transport"];
  vipPort: number;
  /** 0: any. */
  clientPort: number;
}

export interface Relate {
  request: number;
  /** The control connection's id. */
  bundle: string;
  relations: Relation[];
}

export interface RelateAnswer {
  request: number;
  ok: boolean;
  reason: string;
}

export interface Unrelate {
  bundle: string;
  /** None: all of the bundle. */
  relations: Relation[];
}

// agent.proto, controller to agent

export interface Welcome {
  slot: number;
  generation: number;
  controllerId: string;
  /** The appliance's, 6 bytes: where packets of connections that are not here go back to. */
  mac: Buffer;
}

export interface Describe {
  request: number;
  connectionIds: string[];
  all: boolean;
  detail: boolean;
}

export interface Adopt {
  request: number;
  flow: FlowMessage | null;
  clientIsn: number;
  clientAck: number;
  mss: number;
  windowScale: number;
  sack: boolean;
  timestamps: boolean;
  clientTsval: number;
  clientTsecr: number;
  takeoverId: string;
  from: string;
}

export interface Prepare {
  request: number;
  migration: string;
  connectionId: string;
}

export interface PrepareAnswer {
  request: number;
  ready: boolean;
  reason: string;
  elapsedUs: number;
}

export interface Freeze {
  migration: string;
  connectionId: string;
  /** Server id. */
  target: string;
  deadlineMs: number;
}

/** Exactly one of the members; on what was received, `what` names it. */
export interface ControllerMessage {
  what?: string;
  welcome?: Welcome;
  takenOverAck?: { batch: number };
  describe?: Describe;
  adopt?: Adopt;
  prepare?: Prepare;
  freeze?: Freeze;
  cancel?: { migration: string };
  drained?: { remaining: number };
  related?: RelateAnswer;
}

// agent.proto, agent to agent

export interface SocketState {
  sendUna: number;
  sendNext: number;
  windowWl1: number;
  windowSend: number;
  windowMax: number;
  timestampClock: number;
  timestampUsec: boolean;
  nodelay: boolean;
  keepalive: boolean;
  keepIdleS: number;
  keepIntervalS: number;
  keepCount: number;
  congestion: string;
  acknowledged: number;
  echo: number;
  unread: Buffer;
}

export interface FrozenConnection {
  /** An encoded ConnectionRecord. */
  record: Buffer;
  revision: number;
  socket: SocketState | null;
}

export interface HandoverRequest extends FrozenConnection {
  migration: string;
  deadlineMs: number;
  related: FrozenConnection[];
}

export interface HandoverReply {
  migration: string;
  committed: boolean;
  reason: string;
}

// control.proto

export interface LoadMessage {
  cpu: number;
  pressure: number;
  loopDelayMs: number;
  egressBytesPerSecond: number;
}

export interface ServerMessage {
  id: string;
  /** UP, DRAINING, HELD, TAKEOVER, DOWN, JOINING */
  state: string;
  connections: number;
  load: LoadMessage | null;
  leaseAgeMs: number;
  reason: string;
  incarnation: number;
  generation: number;
  slot: number;
  addresses: string[];
  /** The digests of all that it serves are known: it can take any connection over at once. */
  contentReady: boolean;
  /** Its load by the overload thresholds: 1 and more, for some time, is overloaded. */
  overloadIndex: number;
}

export interface StatusMessage {
  version: string;
  leader: string;
  servers: ServerMessage[];
  vips: string[];
  services: { name: string; port: number; protocol: string }[];
  problems: string[];
  store: { url: string; connected: boolean; embedded: boolean } | null;
  verdicts: Record<string, number>;
  connections: number;
}

export interface ConnectionMessage {
  id: string;
  client: string;
  vip: string;
  transport: string;
  protocol: string;
  owner: string;
  epoch: number;
  phase: string;
  ageSeconds: number;
  bytesSent: number;
  bytesReceived: number;
  bundle: string;
  object: string;
  offset: number;
  protected: boolean;
  reason: string;
}

export interface SequencePair {
  client: number;
  server: number;
}

export interface ConnectionDetail {
  connection: ConnectionMessage | null;
  initialSeq: SequencePair | null;
  currentSeq: SequencePair | null;
  firstByteSeq: number;
  serverId: string;
  /** ISO 8601 */
  takenAt: string;
  layers: { layer: string; version: number; stateJson: string }[];
  history: { time: string; timeUs: number; what: string; layer: string; detail: string; server: string }[];
  /** What goes with it. */
  related: ConnectionMessage[];
}

export interface EventMessage {
  /** ISO 8601 in UTC with microseconds */
  time: string;
  kind: string;
  connection: string;
  bundle: string;
  from: string;
  to: string;
  result: string;
  reason: string;
  /** phase name to microseconds */
  phases: Record<string, number>;
  heldPackets: number;
  heldUs: number;
}

export interface DrainProgressMessage {
  moved: number;
  remaining: number;
  finished: boolean;
  reasons: Record<string, string>;
}
