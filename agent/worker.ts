import { networkInterfaces } from "node:os";
import { maglevTable } from "../bpf/maglev.js";
import {
  type Config,
  listeningPortsOf,
  natsUrls,
  recordBytesMax,
  type ServiceConfig,
  serverOf,
} from "../proto/config/index.js";
import { BatonError } from "../proto/errors.js";
import { parseConnectionId } from "../proto/flow.js";
import { interfaceMac } from "../proto/interface.js";
import { logger } from "../proto/log.js";
import { serveMetrics } from "../proto/metrics.js";
import {
  type Adopt,
  type Describe,
  type LiveConnection as Described,
  flowMessage,
  flowOfMessage,
  MIGRATION,
  type Relation as RelationMessage,
  type TakeoverResult,
  transportMessage,
} from "../proto/rpc/index.js";
import { connectStore, type Store } from "../proto/store/index.js";
import { Tally } from "../proto/tally.js";
import { type Listening, listen } from "./connection/acceptor.js";
import { Bundles } from "./connection/bundles.js";
import { CommitMeter } from "./connection/commit_meter.js";
import type { LiveConnection } from "./connection/connection.js";
import { Datagrams } from "./connection/datagrams.js";
import { Dialler } from "./connection/dialler.js";
import { Exposures } from "./connection/exposures.js";
import type { ConnectionHost } from "./connection/host.js";
import { LeadTable } from "./connection/lead_table.js";
import { ConnectionTable } from "./connection/table.js";
import { Transit } from "./connection/transit.js";
import { Guard } from "./guard/index.js";
import { HealthWatch } from "./health/index.js";
import { AgentLink, linkTargets } from "./link/index.js";
import { LoadMeter } from "./load.js";
import { WorkerMetrics } from "./metrics.js";
import { Arrivals } from "./migration/arrivals.js";
import { Departures } from "./migration/departures.js";
import { acceptHandovers, Peers } from "./migration/peers.js";
import type { MigrationResult } from "./migration/result.js";
import { native } from "./native/index.js";
import { Orders } from "./orders.js";
import { setNiceness } from "./priority.js";
import { applicationProtocols, type Relation } from "./protocols/index.js";
import { type PassedListener, Relief, type Relieved, Taking, takeConnections } from "./replace/index.js";
import { adopt } from "./restore/adoption.js";
import type { ResumptionResult } from "./restore/attempt.js";
import { dispatchGuardEvents } from "./restore/dispatch.js";
import { Foresight } from "./restore/foresight.js";
import { Heir } from "./restore/heir.js";
import { AnswerDesk } from "./restore/reattachment.js";
import { Services } from "./services.js";
import { linkToSupervisor } from "./supervisor/link.js";

const log = logger("worker");
/** An idle connection is ended in order after this long. */
const IDLE_MS = 75_000;
/** A takeover is a matter of milliseconds for many clients: before ordinary work, behind leases and the store. */
const NICENESS_SERVING = -10;
const LOAD_MS = 500;
const ENDINGS_MS = 500;
const ENDINGS_POLL_MS = 10;
const SWEEP_MS = 5_000;
/** A successor waits so long for the digests of its content, for the controllers, and for ports that its predecessor lets go of. */
const CONTENT_MS = 10_000;
const GREETING_MS = 2_000;
const PORT_MS = 5_000;
const PORT_POLL_MS = 20;
/** For the appliances to know where related flows go. */
const RELATE_MS = 2_000;
const MEBIBYTE = 1_048_576;
const REPLACED = "its agent is being replaced";
/** Guard entries of connections that are over stay for their TIME_WAIT. */
const ENTRY_AGE_S = 90;

/** The daemon `baton worker`: holds the sockets. Its supervisor says when it must let go of them. */
export async function run({ config, id }: { config: Config; id: string }): Promise<void> {
  const server = serverOf(config, id);
  const orders = new Orders(() => process.exit(0));
  const { incarnation, successor, say } = linkToSupervisor(orders);
  const guard = Guard.open(server.pins);
  const doors = config.services.flatMap(doorsOf);
  const local = config.vips.flatMap((address) => doors.map(({ port }) => ({ address, port })));
  // What an earlier worker left would be in the way of connections that come home, and of the listeners. A successor's lives.
  const orphans = successor ? 0 : native.destroyOrphans(local);
  const leads = new LeadTable(
    {
      commitLead: (name, holder, expected) => store.connections.commitLead(name, holder, expected),
      read: (connection) => store.connections.read(connection),
    },
    (connection) => heir.lookup(connection)?.bytes,
  );
  const services = await Services.open(config, id, native, leads);
  const store = await connectStore({
    servers: natsUrls(config),
    name: `${id}-worker-${incarnation}`,
    messageBytesMax: recordBytesMax(config),
    spillBytesMax: config.limits.spillMegabytes * MEBIBYTE,
  });

  let ended = 0;
  const takeovers = new Tally();
  const exposures = new Exposures();
  const metrics: WorkerMetrics = new WorkerMetrics(id, {
    verdicts: () => guard.verdicts(),
    room: () => guard.room(),
    connections: () => table.size,
    ended: () => ended,
    takeovers,
    takeoversRetried: () => heir.retried,
    exposures: exposures.tally,
    turnedAway: () => table.clients.turnedAway,
    ignored: () => desk.ignored,
    commitsRefused: () => host.commits.refused,
    spillsRefused: () => host.commits.spills.total,
    passedOver: () => store.passedOver,
    controllers: () => link.connected().length,
    unacknowledged: () => link.unacknowledged(),
  });
  const host: ConnectionHost = {
    serverId: id,
    incarnation,
    writer: `${id}/${incarnation}`,
    native,
    guard,
    bucket: store.connections,
    spills: store.spills,
    commits: new CommitMeter((seconds) => metrics.committed(seconds)),
    exposures,
    bundles: new Bundles(
      {
        relate: (bundle, relations) => link.relate(bundle, relations.map(relationMessage), RELATE_MS),
        restate: (bundle, relations) => link.restateRelations(bundle, relations.map(relationMessage)),
        unrelate: (bundle, relations) => link.unrelate(bundle, relations.map(relationMessage)),
        forget: (bundle) => link.forgetRelations(bundle),
        dial: (bundle, from, to) => dialler.dial(bundle, from, to),
      },
      new Datagrams(guard, incarnation, server.interface),
    ),
    limits: {
      inputBytes: config.limits.inputBytes,
      connectionsPerClient: config.limits.connectionsPerClient,
      halfOpenPerClient: config.limits.halfOpenPerClient,
      bodyBytes: (service) => services.bodyBytesOf(service),
      recordBytes: recordBytesMax(config),
    },
    get unprotected() {
      return orders.unprotected;
    },
    ended: (connection) => {
      ended++;
      table.drop(connection);
    },
  };
  const table: ConnectionTable = new ConnectionTable(host, (c, offset) => services.stackOf(c, offset), IDLE_MS);
  const dialler = new Dialler(table, doors);
  const transit = new Transit();
  const desk = new AnswerDesk();
  const results = new ResultBatch((takeoverId, batch) => link.reportTakenOver(takeoverId, batch));
  const heir = new Heir(
    table,
    desk,
    (takeoverId, result) => {
      takeovers.add(result.result);
      results.add(takeoverId, resultMessage(result));
    },
    transit,
  );
  store.on("connected", () => heir.storeConnected());

  const migrated = (result: MigrationResult) => results.add(MIGRATION, takeoverResultOf(result));
  const arrivals = new Arrivals(table, heir, migrated);
  const others = config.servers.filter((other) => other.id !== id);
  const peers: Peers = new Peers(
    others.map((other) => ({ id: other.id, target: other.handover })),
    (reply) => departures.answered(reply),
  );
  const departures = new Departures(table, peers, migrated);

  const link: AgentLink = new AgentLink(linkTargets(config), {
    hello: () => ({
      serverId: id,
      incarnation,
      mac: interfaceMac(server.interface),
      addresses: (networkInterfaces()[server.interface] ?? []).map(({ address }) => address),
      services: config.services.map(({ name }) => name),
      version: "1",
      pid: process.pid,
    }),
    describe: (request) => describe(table, request),
    adopt: async (request) => {
      if (ceased) throw new BatonError("AGENT_UNAVAILABLE", REPLACED);
      const orphan = orphanOf(request);
      const serviceOf = (port: number) => services.atPort(port);
      const adoption = adopt(orphan, { table, desk, heir, serviceOf, receiveScale: table.receiveScale });
      return resultMessage(await transit.track(adoption));
    },
    prepare: async (request) =>
      ceased ? { request: request.request, ready: false, reason: REPLACED, elapsedUs: 0 } : arrivals.prepare(request),
    freeze: (request) => {
      const { migration, connectionId } = request;
      if (ceased)
        migrated({
          migration,
          connectionId,
          connection: undefined,
          result: "resumedOnOld",
          reason: REPLACED,
          phasesUs: {},
        });
      else void transit.track(departures.depart(request));
    },
    cancel: (migration) => arrivals.cancel(migration),
    welcome: (_controller, welcome) => {
      const mac = [...welcome.mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
      guard.setAppliances([mac]);
    },
  });

  const listeners: PassedListener[] = [];
  const listenAt = (address: string, port: number, fd?: number) => {
    const door = doors.find((one) => one.port === port);
    if (!door) throw new BatonError("INTERNAL", `no service has port ${port}`);
    const listener = listen(table, address, door, fd);
    listeners.push({ address, port, listener });
  };
  const held: Array<{ close(): void }> = [];
  let ceased = false;
  let taking: Taking | undefined;
  let relief: Relief | undefined;
  const relieved: Relieved = {
    ...{ native, state: server.state, transit, table, listeners, say },
    cease: () => {
      ceased = true;
      heir.cease();
      link.retire();
      for (const one of held) one.close();
    },
  };
  const foresight = new Foresight(id, (record) => services.foresee(record));
  await watch(store, { heir, departures, leads, foresight });
  // Whoever of the others dies next: the table of its heirs is made before it is needed.
  const ids = config.servers.map((other) => other.id).sort();
  for (const dead of ids) if (dead !== id) maglevTable(ids.filter((other) => other !== dead));
  let serves: () => void = () => {};
  const served = new Promise<void>((resolve) => {
    serves = resolve;
  });
  orders.obey({
    abandon: (why) => table.abandon(why),
    leave: async () => {
      await served;
      if (table.size > 0) await link.leave(config.limits.drainMs);
      await endingsAreOver(guard);
    },
    protectionChanged: () => table.each((connection) => connection.lookAgain()),
    pass: () => {
      relief = new Relief(relieved);
      void relief.run();
    },
    keep: (reason) => relief?.callOff(reason),
    serve: () => void serve(),
  });

  /** From here on this worker is its server's. */
  async function serve(): Promise<void> {
    taking?.close();
    table.early.end();
    held.push(guard.events(dispatchGuardEvents(table, desk, heir)));
    heir.begin();
    for (const { port } of doors) {
      for (const vip of config.vips) {
        if (!listeners.some((one) => one.address === vip && one.port === port)) listenAt(vip, port);
      }
    }
    const takeHandovers = () =>
      acceptHandovers(server.handover, (request, reply) => void transit.track(arrivals.arrive(request, reply)));
    held.push(await (successor ? onceFree(takeHandovers) : takeHandovers()));
    link.start();
    const meter = new LoadMeter(server.interface, server.cgroup);
    const health = new HealthWatch(services.checked);
    const load = setInterval(() => {
      const { used, capacity, forBirths } = guard.room();
      const problems: string[] = [];
      if (!store.connected) problems.push("the store is not connected");
      if (!forBirths) problems.push(`its table of ${capacity} connections is nearly full: new ones are turned away`);
      link.reportLoad({
        ...meter.sample(),
        connections: table.size,
        problems,
        contentReady: services.contentReady,
        unhealthy: health.unhealthy,
        guardUsed: used / capacity,
      });
    }, LOAD_MS);
    const sweep = setInterval(() => {
      guard.sweep(ENTRY_AGE_S);
      heir.removeLeftovers();
    }, SWEEP_MS);
    held.push(health, { close: () => clearInterval(load) }, { close: () => clearInterval(sweep) });
    if (server.metrics) {
      const show = () => serveMetrics(server.metrics as string, metrics.metrics, () => []);
      const shown = await (successor ? onceFree(show) : show());
      held.push({ close: () => void shown.close() });
    }
    if (successor) await link.greeted(GREETING_MS);
    if (!setNiceness(NICENESS_SERVING, 0))
      log.warn("no leave to raise the priority: takeovers are slower on a busy machine");
    log.info({ server: id, incarnation, orphans, pid: process.pid }, "the worker serves");
    say({ type: "serving" });
    serves();
  }

  if (!successor) return serve();
  table.early.begin();
  taking = await Taking.listen(native, server.state, {
    listener: listenAt,
    connections: async (messages, fds) => {
      await takeConnections(table, messages, fds);
      table.early.again();
    },
  });
  await Promise.race([services.ready, new Promise((resolve) => setTimeout(resolve, CONTENT_MS))]);
  setNiceness(NICENESS_SERVING, 0);
  say({ type: "prepared" });
}

/** Where a service's connections come to: its port, and those of related connections. */
function doorsOf(service: ServiceConfig): Listening[] {
  const { name, protocol, port, protect } = service;
  const door = { service: name, protocol, recorded: protect };
  const { bundles } = applicationProtocols[protocol];
  return [
    { ...door, port, role: bundles ? "control" : "alone" },
    ...listeningPortsOf(service)
      .filter(({ transport }) => transport === "tcp")
      .map((related): Listening => ({ ...door, port: related.port, role: "related" })),
  ];
}

function relationMessage({ transport, ...ports }: Relation): RelationMessage {
  return { ...ports, transport: transportMessage(transport) };
}

/** A port that the worker before this one lets go of may be in use for a moment yet. */
async function onceFree<T>(listen: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + PORT_MS;
  for (;;) {
    try {
      return await listen();
    } catch (error) {
      const isTaken = error instanceof BatonError && error.code === "PORT_TAKEN";
      if (!isTaken || performance.now() > deadline) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, PORT_POLL_MS));
  }
}

/** The last segments of connections that have just ended would be silenced with all the rest: they get a moment to leave. */
async function endingsAreOver(guard: Guard): Promise<void> {
  const deadline = performance.now() + ENDINGS_MS;
  while (guard.census().phases.LIVE > 0 && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, ENDINGS_POLL_MS));
  }
}

/** Resolves when everything that the store holds has been seen. */
function watch(
  store: Store,
  to: { heir: Heir; departures: Departures; leads: LeadTable; foresight: Foresight },
): Promise<void> {
  const { heir, departures, leads, foresight } = to;
  return new Promise((resolve) => {
    store.connections.watch({
      onRecord: (id, revision, bytes) => {
        departures.recordSeen(id, bytes);
        heir.record(id, revision, bytes);
        leads.recordChanged(id);
        const known = heir.lookup(id);
        if (known) foresight.record(known);
      },
      onRemoved: (id) => {
        heir.removed(id);
        foresight.removed(id);
        leads.recordChanged(id);
      },
      onLead: (name, revision, holder) => leads.seen(name, revision, holder),
      onTakeover: (_key, _revision, bytes) => heir.takeover(bytes),
      onCaughtUp: () => resolve(),
    });
  });
}

function describe(table: ConnectionTable, { connectionIds, all, detail }: Describe): Described[] {
  const found: LiveConnection[] = [];
  if (all) table.each((connection) => found.push(connection));
  else for (const id of connectionIds) found.push(...(table.get(id) ? [table.get(id) as LiveConnection] : []));
  return found.map((connection) => ({
    ...connection.describe(),
    history: detail ? [...connection.history.entries] : [],
  }));
}

/** Results of one turn of the loop leave as one batch. */
class ResultBatch {
  private readonly waiting = new Map<string, TakeoverResult[]>();

  constructor(private readonly send: (takeoverId: string, results: TakeoverResult[]) => void) {}

  add(takeoverId: string, result: TakeoverResult): void {
    const batch = this.waiting.get(takeoverId);
    if (batch) {
      batch.push(result);
      return;
    }
    this.waiting.set(takeoverId, [result]);
    setImmediate(() => {
      const results = this.waiting.get(takeoverId) ?? [];
      this.waiting.delete(takeoverId);
      this.send(takeoverId, results);
    });
  }
}

/** `from` names the migration: whose it was the controller knows. */
function takeoverResultOf(done: MigrationResult): TakeoverResult {
  const { connection, connectionId, result, reason, phasesUs, migration } = done;
  const flow = flowMessage(parseConnectionId(connectionId).flow);
  return { connectionId, flow, result, reason, phasesUs, epoch: connection?.epoch ?? 0, from: migration };
}

function resultMessage(result: ResumptionResult): TakeoverResult {
  const { id, flow, phasesUs, epoch, from, reason } = result;
  return { connectionId: id, flow: flowMessage(flow), result: result.result, reason, phasesUs, epoch, from };
}

function orphanOf(request: Adopt) {
  const { flow } = request;
  if (!flow) throw new Error("an adoption names no flow");
  return {
    flow: flowOfMessage(flow),
    from: request.from,
    clientIsn: request.clientIsn,
    clientAck: request.clientAck,
    mss: request.mss,
    windowScale: request.windowScale === 255 ? undefined : request.windowScale,
    sack: request.sack,
    timestamps: request.timestamps,
    clientTsecr: request.clientTsecr,
  };
}
