import { z } from "zod";
import { type Protocol, protocols } from "../vocabulary.js";
import { isAddress, listenEndpoint } from "./address.js";
import { type PortRange, portCount, portRange, RELATED_PORTS_MAX } from "./related.js";

const id = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9-]{0,31}$/,
    "must be 1 to 32 letters, digits and hyphens, beginning with a letter or digit",
  )
  .describe("Letters, digits and hyphens; part of store keys, file names and metric labels");
const address = z.string().refine(isAddress, "must be an IPv4 or IPv6 address");
const hostPort = z
  .string()
  .refine((text) => listenEndpoint(text) !== undefined, "must be ADDRESS:PORT, with an IPv6 address in brackets");
const absolute = z.string().regex(/^\/./, "must be an absolute path");
const directory = z.string().min(1, "must not be empty");
const device = z
  .string()
  .regex(/^[^\s/:]{1,15}$/, "must be the name of a network interface (at most 15 characters)")
  .default("eth0");
const upstream = z
  .string()
  .regex(
    /^(http:\/\/(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?|unix:\/.+)$/,
    "must be http://HOST:PORT or unix:PATH",
  );
const natsUrl = z.string().regex(/^(nats|tls):\/\/[^\s/]+$/, "must look like nats://HOST:PORT");

const nats = z
  .strictObject({
    listen: hostPort.optional().describe("Start a nats-server here; the default when there is no url"),
    url: z
      .union([natsUrl, z.array(natsUrl).min(1, "must name at least one server")])
      .optional()
      .describe("Use these servers and start nothing"),
  })
  .describe("The store. Without it, a nats-server runs beside the first controller, on port 4222");

const controller = z.strictObject({
  id,
  interface: device.describe("Where packets to the VIPs arrive and leave"),
  listen: hostPort.describe("gRPC for agents and operators"),
  socket: absolute.optional().describe("The same on a Unix socket; default: api.sock in the state directory"),
  metrics: hostPort.optional().describe("HTTP for Prometheus: /metrics, /healthz"),
  state: absolute.optional().describe("Pid files, logs, events, the embedded store; default: /run/baton/CLUSTER/ID"),
  pins: absolute.optional().describe("Directory in bpffs; default: /sys/fs/bpf/baton/ID"),
  cgroup: absolute.optional().describe("cgroup2 directory of this host's daemons, if they have one"),
});

const server = z.strictObject({
  id,
  interface: device.describe("Where packets to the VIPs arrive and answers leave"),
  address: address.describe("The server's own address, not a VIP"),
  handover: hostPort.optional().describe("gRPC for other agents, which hand connections over; default: ADDRESS:7601"),
  metrics: hostPort.optional().describe("HTTP for Prometheus: /metrics, /healthz"),
  state: absolute.optional().describe("Pid files and logs; default: /run/baton/CLUSTER/ID"),
  pins: absolute.optional().describe("Directory in bpffs; default: /sys/fs/bpf/baton/ID"),
  cgroup: absolute.optional().describe("cgroup2 directory of this host's daemons; needed by the agent's guard"),
});

const ports = z
  .string()
  .refine((text) => portRange(text) !== undefined, {
    error: "must be FROM-TO, two ports of 1 to 65535, the lower one first",
    abort: true,
  })
  .refine((text) => portCount(portRange(text) ?? { from: 1, to: 1 }) <= RELATED_PORTS_MAX, {
    error: `must have at most ${RELATED_PORTS_MAX} ports`,
  });

const group = z
  .strictObject({
    file: z.string().regex(/^\/[^/]/, "must be the path of a file as clients name it, with a slash in front"),
    group: address.describe("Multicast address that the file is sent to; one file may have one of each family"),
    port: z
      .int()
      .min(1_024, "must be 1024 to 65520")
      .max(65_520, "must be 1024 to 65520")
      .multipleOf(2, "must be even: RTCP has the port above it")
      .default(5_004)
      .describe("RTP's for the first track; the next track has the one two above"),
    ttl: z.int().min(1, "must be 1 to 255").max(255, "must be 1 to 255").default(16).describe("Or hop limit, of IPv6"),
  })
  .describe("A file that is sent once for all who want it there");

const bodyMegabytes = z.int().min(0, "must be at least 0").max(16_384, "must be at most 16384");

const serviceLimits = z.strictObject({
  bodyMegabytes: bodyMegabytes.optional().describe("As limits.bodyMegabytes; default: what that says"),
  responseKilobytes: z
    .int()
    .min(0, "must be at least 0")
    .max(256, "must be at most 256")
    .default(64)
    .describe("An upstream's response that is kept in the record, if it is there at once; a larger one is had again"),
});

const service = z.strictObject({
  name: id,
  port: z.int().min(1, "must be 1 to 65535").max(65535, "must be 1 to 65535"),
  protocol: z.enum(protocols),
  relatedPorts: ports
    .optional()
    .describe("FROM-TO: ports on the VIPs for what goes with a connection, data or media; of protocols that have that"),
  directory: directory
    .optional()
    .describe("What is served, relative to the configuration file; protocol app serves no files and has none"),
  directories: z.record(z.string(), directory).default({}).describe("Another directory on some servers, by server id"),
  users: directory
    .optional()
    .describe(
      "File of those who have a password, relative to the configuration file. Protocol ftp: directory is for those who have none; rtsp: nobody else may play",
    ),
  realm: z
    .string()
    .regex(/^[ !#-9;-[\]-~]{1,64}$/, "must be 1 to 64 characters of ASCII without quotes, colons and backslashes")
    .optional()
    .describe(
      "Protocol rtsp with users: what clients show when they ask for a password, and part of its hashes; default: baton",
    ),
  multicast: z.array(group).max(256, "must have at most 256 entries").default([]).describe("Protocol rtsp"),
  upstream: upstream
    .optional()
    .describe("An HTTP/1.1 server that the agent stands before, instead of a directory: http://HOST:PORT or unix:PATH"),
  upstreams: z.record(z.string(), upstream).default({}).describe("Another one on some servers, by server id"),
  repeat: z
    .enum(["idempotent", "all", "none"])
    .default("idempotent")
    .describe(
      "Which requests an upstream may get again when their server dies before it has answered. GET, HEAD and OPTIONS always; idempotent: also PUT, DELETE, and whatever has an Idempotency-Key",
    ),
  protect: z
    .boolean()
    .default(true)
    .describe(
      "false: nothing is recorded, and a connection dies with its server; for content that is not worth a commit",
    ),
  validator: z
    .enum(["sha256", "mtime+size"])
    .default("sha256")
    .describe("What says that two servers hold the same file. mtime+size only where times are replicated as well"),
  limits: serviceLimits.prefault({}),
});

/** Whether a service of the protocol serves files, and so needs a directory, or an upstream that has them. */
export const servesDirectory: Record<Protocol, boolean> = { http: true, ftp: true, rtsp: true, app: false };

const lease = z.strictObject({
  durationMs: z.int().min(20, "must be 20 to 60000").max(60000, "must be 20 to 60000").default(100),
  renewMs: z.int().min(5, "must be 5 to 30000").max(30000, "must be 5 to 30000").default(25),
  onStoreLoss: z
    .enum(["stall", "serve-unprotected"])
    .default("stall")
    .describe("When the store is gone: pause until it is back, or go on without protection"),
});

const positive = z.int().min(1, "must be at least 1");
const limits = z.strictObject({
  flows: positive.max(1_048_576, "must be at most 1048576").default(65536).describe("Connections a server"),
  connectionsPerClient: positive
    .max(1_048_576, "must be at most 1048576")
    .default(4096)
    .describe("Of one IPv4 address, or IPv6 /64, at a server; more are reset"),
  halfOpenPerClient: positive
    .max(1_048_576, "must be at most 1048576")
    .default(256)
    .describe(
      "Of those, with which nothing has been begun (FTP: nobody has logged in; RTSP: nothing is set up); more are told so and ended, or reset",
    ),
  drainMs: z
    .int()
    .min(0, "must be at least 0")
    .max(3_600_000, "must be at most 3600000")
    .default(30_000)
    .describe("How long an agent that is stopped (SIGTERM) moves its connections away first; 0: not at all"),
  holdMs: positive.max(60_000, "must be at most 60000").default(10_000).describe("Longest hold of a packet"),
  holdMegabytes: positive.max(65_536, "must be at most 65536").default(256).describe("All held packets together"),
  holdPacketsPerFlow: positive.max(1_048_576, "must be at most 1048576").default(4096),
  inputBytes: z
    .int()
    .min(4096, "must be at least 4096")
    .max(16_777_216, "must be at most 16777216")
    .default(262_144)
    .describe("Client bytes of a connection that are read and recorded before the application takes them"),
  bodyMegabytes: bodyMegabytes
    .default(256)
    .describe("A request's body that is kept until it is answered, if it may be executed again"),
  spillMegabytes: positive
    .max(1_048_576, "must be at most 1048576")
    .default(1_024)
    .describe("All such bodies together, in the store"),
});

const aboveZero = z.number().gt(0, "must be above 0");
const share = aboveZero.max(1, "must be at most 1");
const thresholds = z.strictObject({
  cpu: share.default(0.8).describe("Of the cores that the host may use"),
  cpuLead: share
    .default(0.3)
    .describe("Of those cores, used or waited for, beyond what the other servers want (their median)"),
  pressure: aboveZero
    .max(100, "must be at most 100")
    .default(30)
    .describe("PSI of its CPU (some avg10, percent), beyond that of the other servers (their median)"),
  loopDelayMs: aboveZero.default(100).describe("Delay of its worker's event loop"),
  egressMegabytesPerSecond: aboveZero
    .optional()
    .describe("What it sends; default: nine tenths of its interface's speed, where it has one"),
  connections: positive.optional().describe("Default: four fifths of limits.flows"),
});

const overload = z
  .strictObject({
    mode: z
      .enum(["on", "dry-run", "off"])
      .default("on")
      .describe("dry-run: says what it would move, and moves nothing"),
    thresholds: thresholds.prefault({}),
    lowMark: aboveZero
      .lt(1, "must be below 1")
      .default(0.7)
      .describe("Of every threshold: below it a server is no longer overloaded, and no other is filled further"),
    sustainedMs: positive
      .max(600_000, "must be at most 600000")
      .default(3_000)
      .describe("How long a server's load must have been above a threshold, or below the low mark"),
    movesPerSecond: positive.max(1_000, "must be at most 1000").default(20),
    restMs: positive
      .max(3_600_000, "must be at most 3600000")
      .default(30_000)
      .describe("How long a moved connection stays where it is, twice as long with every further move"),
  })
  .describe("When connections are moved away from a server that has too much to do");

/** The configuration file as written. `complete()` in load.ts fills what depends on other fields. */
export const schema = z
  .strictObject({
    cluster: id.default("baton"),
    vips: z.array(address).min(1, "must name at least one address").describe("Addresses that clients connect to"),
    nats: nats.prefault({}),
    controllers: z.array(controller).min(1, "must name at least one controller"),
    servers: z.array(server).min(1, "must name at least one server").max(1023, "must name at most 1023 servers"),
    services: z.array(service).min(1, "must name at least one service"),
    lease: lease.prefault({}),
    limits: limits.prefault({}),
    overload: overload.prefault({}),
  })
  .describe("Baton");

type Written = z.output<typeof schema>;
type Filled<T, K extends keyof T> = Omit<T, K> & { [P in K]-?: NonNullable<T[P]> };

export type ControllerConfig = Filled<Written["controllers"][number], "socket" | "state" | "pins">;
export type ServerConfig = Filled<Written["servers"][number], "state" | "pins" | "handover">;
type WrittenService = Written["services"][number];
export type GroupConfig = WrittenService["multicast"][number];
export type ServiceConfig = Omit<WrittenService, "limits" | "relatedPorts"> & {
  limits: Filled<WrittenService["limits"], "bodyMegabytes">;
  relatedPorts?: PortRange;
};
/** `listen` of the embedded server, or the `urls` of servers that others run. */
export type NatsConfig = { embedded: true; listen: string } | { embedded: false; urls: string[] };
export type LeaseConfig = Written["lease"];
export type LimitsConfig = Written["limits"];
export type OverloadConfig = Written["overload"];
export type WrittenConfig = Written;

export interface Config {
  /** Absolute path of the file it came from. */
  file: string;
  /** What that said: it may say something else by now. */
  text: string;
  cluster: string;
  vips: string[];
  nats: NatsConfig;
  controllers: ControllerConfig[];
  servers: ServerConfig[];
  services: ServiceConfig[];
  lease: LeaseConfig;
  limits: LimitsConfig;
  overload: OverloadConfig;
}

/** JSON Schema (draft 2020-12) of the file, for editors. */
export function jsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(schema, { io: "input" }) as Record<string, unknown>;
}
