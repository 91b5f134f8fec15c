import { mkdirSync } from "node:fs";
import { type Config, controllerOf, isRelatedPort, natsUrls, recordBytesMax } from "../proto/config/index.js";
import { BatonError } from "../proto/errors.js";
import { writePidFile } from "../proto/files.js";
import { interfaceMac } from "../proto/interface.js";
import { logger } from "../proto/log.js";
import { serveMetrics } from "../proto/metrics.js";
import { MIGRATION, type TakenOver } from "../proto/rpc/index.js";
import { connectStore, type Store } from "../proto/store/index.js";
import type { ServerState } from "../proto/vocabulary.js";
import { AgentSessions } from "./agents/index.js";
import { ApiServer } from "./api/index.js";
import { inBackground } from "./background.js";
import { asBundles, type ConnectionEntry, ConnectionIndex } from "./connections/index.js";
import { EventLog } from "./events/index.js";
import { Membership } from "./membership/index.js";
import { ControllerMetrics } from "./metrics/index.js";
import { Drains, Migrations } from "./migration/index.js";
import { Model } from "./model.js";
import { startNats } from "./nats/index.js";
import {
  HealthDriver,
  type HealthView,
  hostLoad,
  OverloadDriver,
  OverloadPolicy,
  Rotation,
  type ServerView,
  thresholdsOf,
} from "./policy/index.js";
import { becomeRealtime } from "./realtime.js";
import { Relations } from "./relations/index.js";
import { Reload } from "./reload.js";
import { TakeoverCoordinator } from "./takeover/coordinator.js";
import { Crowding } from "./takeover/crowding.js";
import { Placement } from "./takeover/placement.js";
import { Roster } from "./takeover/roster.js";
import { SteeredAppliance } from "./takeover/steered_appliance.js";
import { Strays } from "./takeover/strays.js";

const log = logger("controller");
/** By then whoever froze a connection for an earlier controller has handed it over or taken it back. */
const RECOVER_MS = 1_500;
const TRIM_MS = 10_000;
const TOMBSTONE_AGE_MS = 120_000;
/** A load that was reported longer ago says nothing. */
const LOAD_AGE_MS = 2_000;
/** For an agent to name its connections. */
const DESCRIBE_MS = 1_000;

/** The daemon `baton controller`: returns when everything is up; open handles keep the process alive. */
export async function run({ config, id }: { config: Config; id: string }): Promise<void> {
  const own = controllerOf(config, id);
  mkdirSync(own.state, { recursive: true });
  if (!becomeRealtime()) log.warn("no real-time priority: on a busy machine deaths are found later");
  let hungUp = false; // before there is anything to reload
  let hangUp = () => {
    hungUp = true;
  };
  process.on("SIGHUP", () => hangUp());
  writePidFile(own.state, "controller", process.pid);

  const nats = await startNats(config, id);
  const messageBytesMax = recordBytesMax(config);
  const store = await connectStore({ servers: natsUrls(config), name: `${id}-controller`, messageBytesMax });
  const events = new EventLog(own.state);
  const index = new ConnectionIndex();
  const sessions = new AgentSessions();
  const mac = interfaceMac(own.interface);

  const membership = new Membership({
    store,
    servers: config.servers.map((server) => server.id),
    durationMs: config.lease.durationMs,
    renewMs: config.lease.renewMs,
    writer: `${id}/${process.pid}/${Date.now().toString(36)}`,
    isClosed: (server, incarnation) => coordinator.isClosed(server, incarnation),
  });
  const roster = new Roster(membership, sessions, (slot) => appliance.macOf(slot));
  const appliance = SteeredAppliance.load(config, own, {
    onHeld: (flows) => strays.held(flows),
    onBounced: (packets) => strays.bounced(packets),
  });
  const crowding = new Crowding();
  const placement = new Placement(
    appliance,
    index,
    (entry) => roster.owner(entry),
    (server) => !crowding.isCrowded(server),
  );
  placement.adopt(
    appliance.exceptions(),
    appliance.holding().map(({ flow }) => flow),
  );
  const relations = new Relations({
    table: appliance.relations,
    index,
    confirm: (control) => {
      const owner = roster.owner(control);
      if (owner) placement.confirm(control.flow(), owner);
    },
    isRelatedPort: (port, transport) => isRelatedPort(reload.config.services, port, transport),
  });
  relations.adopt();
  const strays: Strays = new Strays({
    appliance,
    placement,
    index,
    ownerOf: (entry) => roster.owner(entry),
    memberOfSlot: (slot) => roster.ofSlot(slot),
    seesRecords: () => store.connected,
    serves: ({ id: server }) => roster.serves(server),
    episodeOfSlot: (slot) => coordinator.episodeOfSlot(slot),
    adopt: (server, what, timeoutMs) => sessions.adopt(server, what, timeoutMs),
    adopted: (server, takeoverId, result) => takenOver(server, { batch: 0, takeoverId, results: [result] }),
  });
  const coordinator: TakeoverCoordinator = new TakeoverCoordinator({
    appliance,
    placement,
    index,
    bucket: store.connections,
    events,
    strays,
    living: () => roster.living(),
    heirs: () => roster.heirs(),
    memberOf: (server) => roster.member(server),
    holds: (server, incarnation) => roster.holds(server, incarnation),
    serves: (server) => roster.serves(server),
    returned: (server) => roster.returned(server),
    isFenced: (server, incarnation) => membership.isFenced(server, incarnation),
    began: (server, reason) => membership.takeoverBegan(server, reason),
    freed: (server, closed, reason) => {
      if (closed) membership.takeoverFinished(server, reason);
      admit(server);
    },
  });
  const takenOver = (server: string, batch: TakenOver) =>
    coordinator.takenOver(server, sessions.get(server)?.hello.incarnation ?? 0, batch);

  const serves = (server: string) => roster.serves(server);
  const accepts = (server: string) => roster.living().some((living) => living.id === server);
  const memberOf = (server: string) => roster.member(server);
  const ownerOf = (entry: ConnectionEntry) => roster.owner(entry);
  const migrations = new Migrations({
    appliance,
    placement,
    index,
    events,
    sessions,
    memberOf,
    ownerOf,
    serves,
    accepts,
  });
  const drains = new Drains({ index, migrations, targets: () => roster.living().map(({ id: server }) => server) });

  /** After a server began or ceased to drain: who gets new flows has changed. */
  function rotate(server: string, state: "up" | "draining"): void {
    const member = roster.member(server);
    if (!member) return;
    coordinator.place();
    appliance.setServer(member, state);
  }

  const rotation = new Rotation({
    drain: (server, reason) => {
      const drains = membership.member(server)?.state === "DRAINING";
      membership.drain(server, reason);
      if (!drains) rotate(server, "draining");
    },
    undrain: (server) => {
      membership.undrain(server);
      rotate(server, "up");
    },
  });

  /** Its agent is being stopped. */
  async function leave(server: string, timeoutMs: number): Promise<void> {
    let remaining = index.count(server);
    try {
      if (drains.target(server) === undefined) throw new BatonError("UNSUPPORTED", "There is nowhere to go.");
      rotation.take(server, "agent", "its agent is being stopped");
      for await (const progress of drains.drain(server, timeoutMs)) remaining = progress.remaining;
    } catch (error) {
      if (!(error instanceof BatonError)) throw error;
      log.warn(
        { server, reason: error.message },
        "an agent is stopped and its connections stay until they are taken over",
      );
    }
    sessions.send(server, { drained: { remaining } });
  }

  /** A server joins when nothing of its earlier lives is left, and the packet path knows the flows that stay elsewhere. */
  function admit(server: string): void {
    const joiner = roster.member(server);
    if (!joiner || coordinator.keepsOut(server, membership.member(server)?.incarnation ?? 0)) return;
    if (!membership.admit(server)) return;
    if (membership.isDrained(server)) rotation.take(server, "operator", "an operator has drained it");
    appliance.setServer(joiner, roster.slotState(server) ?? "down");
    coordinator.place();
  }

  membership.on("suspected", (server, incarnation, reason) => {
    const member = roster.member(server);
    if (member && roster.holds(server, incarnation)) coordinator.suspected(member, incarnation, reason);
  });
  membership.on("unsuspected", (server, incarnation) => {
    const member = roster.member(server);
    const state = roster.slotState(server);
    if (member) inBackground(log, "releasing what was held", coordinator.unsuspected(member, incarnation, state));
  });
  membership.on("fenced", (server, incarnation, reason) => {
    const life = membership.member(server)?.incarnation ?? 0;
    const member = roster.member(server);
    // The slot's life, which may have ended unseen before this one. What else has left records the coordinator finds.
    if (member && life <= incarnation) coordinator.fenced(member, life, reason);
  });
  membership.on("joining", ({ id: server }) => admit(server));
  membership.on("changed", ({ id: server, state, reason }) => {
    events.append({ kind: "server", from: server, result: "ok", reason: `${state}: ${reason}` });
    if (state === "DOWN" || state === "TAKEOVER") rotation.forget(server);
  });
  sessions.on("hello", (server, hello) => {
    roster.met(server, hello.mac);
    membership.hello(server, hello.incarnation);
    const member = membership.member(server);
    sessions.send(server, {
      welcome: { slot: member?.slot ?? 0, generation: member?.generation ?? 0, controllerId: id, mac },
    });
  });
  sessions.on("load", (server, { guardUsed }) => {
    if (!crowding.report(server, guardUsed)) return;
    const reason = crowding.isCrowded(server) ? "its table is nearly full: no new connections" : "it has room again";
    events.append({ kind: "server", from: server, result: "ok", reason });
    try {
      coordinator.place();
    } catch (error) {
      log.error({ err: error, server, reason }, "who gets new connections stays as it was");
    }
  });
  sessions.on("relate", (server, { bundle, relations: wanted }, answer) => {
    inBackground(log, "relating flows", relations.relate(server, bundle, wanted).then(answer));
  });
  sessions.on("unrelate", (server, { bundle, relations: over }) => relations.unrelate(server, bundle, over));
  sessions.on("leaving", (server, timeoutMs) => inBackground(log, "a drain", leave(server, timeoutMs)));
  sessions.on("closed", (server, incarnation, reason) => membership.goodbye(server, incarnation, reason));
  sessions.on("takenOver", (server, batch, acknowledge, fail) => {
    if (batch.takeoverId === MIGRATION) {
      migrations.reported(server, batch.results);
      acknowledge();
      return;
    }
    takenOver(server, batch).then(acknowledge, (error) => {
      log.error({ err: error, server, takeover: batch.takeoverId }, "a batch was not taken: it is to be said again");
      fail();
    });
  });

  sessions.on("adopted", (server, result) => {
    inBackground(log, "a late adoption", takenOver(server, { batch: 0, takeoverId: "", results: [result] }));
  });

  const overload = new OverloadDriver(overloadPolicy(config), {
    servers: () => membership.members().map(({ id: server, state }) => loadView(server, state)),
    blocked: () => (coordinator.isBusy ? "a takeover is under way" : heldServer()),
    describe: async (server) => asBundles(await sessions.describe(server, { all: true }, DESCRIBE_MS), index),
    move: (connection, to, why) => migrations.move(connection, to, why),
    event: (event) => events.append(event),
  });
  const health = new HealthDriver({
    servers: () => membership.members().map(({ id: server, state }) => healthView(server, state)),
    rotation,
    connections: (server) => index.count(server),
    empty: async (server, isOver) => {
      for await (const progress of drains.drain(server, Number.POSITIVE_INFINITY, isOver)) {
        const { finished, moved, remaining } = progress;
        if (finished) log.info({ server, moved, remaining }, "a server that is not healthy was emptied");
      }
    },
  });

  function loadView(server: string, state: ServerState): ServerView {
    const agent = sessions.get(server);
    const recent = agent?.load && performance.now() - agent.loadAtMs < LOAD_AGE_MS ? agent.load : undefined;
    return {
      id: server,
      gives: state === "UP",
      takes: accepts(server) && (recent?.contentReady ?? false),
      load: recent && hostLoad(recent, index.count(server)),
    };
  }

  function heldServer(): string {
    const held = membership.members().find(({ state }) => state === "HELD" || state === "TAKEOVER");
    return held ? `${held.id} is ${held.state}` : "";
  }

  function healthView(server: string, state: ServerState): Omit<HealthView, "unhealthyMs"> {
    return {
      id: server,
      state,
      able: membership.heirs().includes(server),
      unhealthy: sessions.get(server)?.load?.unhealthy ?? [],
      drained: rotation.isHeld(server, "health"),
      leaves: rotation.isHeld(server, "operator") || rotation.isHeld(server, "agent"),
    };
  }

  const reload = new Reload(config, (next) => {
    appliance.setServices(next);
    overload.use(overloadPolicy(next));
    if (next.overload.mode === "off") overload.close();
    else overload.start();
  });
  const model = new Model({
    config: () => reload.config,
    id,
    store,
    membership,
    sessions,
    index,
    events,
    verdicts: () => appliance.verdicts(),
    migrations,
    drains,
    overload,
    health,
    rotation,
    problems: () => (nats?.problem ? [`${nats.problem}.`] : []),
  });
  const metrics = new ControllerMetrics(id, {
    servers: () => model.servers(),
    connections: () => index.size,
    relatedFlows: () => relations.size,
    agents: () => sessions.list().length,
    storeConnected: () => store.connected,
    verdicts: () => appliance.verdicts(),
    held: () => appliance.heldTotals(),
    overload: () => overload.counts,
    strays: () => strays.counters,
    transitions: () => membership.transitions(),
  });
  inBackground(log, "counting events", observe(events, metrics));

  // Who is dead and where flows live is decided on every record that there is.
  await watchConnections(store, index, coordinator, placement, relations);
  relations.dropOrphans();
  setTimeout(() => inBackground(log, "ending the moves of an earlier controller", migrations.recover()), RECOVER_MS);
  membership.start();
  if (config.overload.mode !== "off") overload.start();
  health.start();
  const api = await ApiServer.start({ listen: own.listen, socket: own.socket, control: model, agents: sessions });
  if (own.metrics) await serveMetrics(own.metrics, metrics.metrics, () => model.status().problems);
  const trim = setInterval(() => {
    inBackground(log, "trimming old records", store.connections.trimTombstones(TOMBSTONE_AGE_MS));
    inBackground(log, "trimming old takeovers", coordinator.trim(TOMBSTONE_AGE_MS));
  }, TRIM_MS);
  events.append({ kind: "controller", from: id, result: "ok", reason: "started" });
  log.info({ id, listen: own.listen, pid: process.pid }, "the controller is up");

  const stop = async () => {
    clearInterval(trim);
    overload.close();
    health.close();
    coordinator.close();
    membership.close();
    await api.close();
    await events.close();
    await store.close();
    // Steering goes on without us, and so does the embedded store: the connections must not notice.
    process.exit(0);
  };
  hangUp = () => reload.request();
  if (hungUp) hangUp();
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.once(signal, () => inBackground(log, "stopping", stop()));
}

function overloadPolicy({ overload, limits }: Config): OverloadPolicy {
  return new OverloadPolicy({ ...overload, thresholds: thresholdsOf(overload, limits) }, overload.mode === "dry-run");
}

/** Resolves when the index holds everything that the store does. */
async function watchConnections(
  store: Store,
  index: ConnectionIndex,
  coordinator: TakeoverCoordinator,
  placement: Placement,
  relations: Relations,
): Promise<void> {
  let complete: () => void = () => {};
  const caughtUp = new Promise<void>((resolve) => {
    complete = resolve;
  });
  store.connections.watch({
    onRecord: (id, revision, bytes) => {
      try {
        index.apply(id, revision, bytes);
        relations.seen(id);
      } catch (error) {
        if (!(error instanceof BatonError)) throw error;
        log.error({ err: error, connection: id }, "a record cannot be read");
      }
    },
    onRemoved: (id) => {
      const entry = index.removed(id);
      if (entry) placement.ended(entry);
      relations.ended(id);
      coordinator.ended(id);
    },
    onTakeover: (_key, revision, bytes) => coordinator.seen(bytes, revision),
    onTakeoverRemoved: (key) => coordinator.removed(key),
    onCaughtUp: complete,
  });
  await caughtUp;
}

/** Counts what happens from now on; what an earlier controller has logged was counted there. */
async function observe(events: EventLog, metrics: ControllerMetrics): Promise<void> {
  const known = events.recent().length;
  let seen = 0;
  for await (const event of events.follow()) if (++seen > known) metrics.observe(event);
}
