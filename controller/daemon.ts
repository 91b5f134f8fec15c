import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Config, controllerOf, natsUrls, recordBytesMax } from "../proto/config/index.js";
import { BatonError } from "../proto/errors.js";
import { interfaceMac } from "../proto/interface.js";
import { logger } from "../proto/log.js";
import { serveMetrics } from "../proto/metrics.js";
import { MIGRATION } from "../proto/rpc/index.js";
import { connectStore, type Store } from "../proto/store/index.js";
import { AgentSessions } from "./agents/index.js";
import { ApiServer } from "./api/index.js";
import { ConnectionIndex } from "./connections/index.js";
import { EventLog } from "./events/index.js";
import { Membership } from "./membership/index.js";
import { ControllerMetrics } from "./metrics/index.js";
import { Drains, Migrations } from "./migration/index.js";
import { Model } from "./model.js";
import { EmbeddedNats, maxPayload, runsNats } from "./nats/index.js";
import { becomeRealtime } from "./realtime.js";
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

/** The daemon `baton controller`: returns when everything is up; open handles keep the process alive. */
export async function run({ config, id }: { config: Config; id: string }): Promise<void> {
  const own = controllerOf(config, id);
  mkdirSync(own.state, { recursive: true });
  if (!becomeRealtime()) log.warn("no real-time priority: on a busy machine deaths are found later");
  writeFileSync(join(own.state, "controller.pid"), `${process.pid}\n`);

  const nats = runsNats(config, id) ? await startNats(config, id) : undefined;
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
  });
  const roster = new Roster(membership, sessions);
  const appliance = SteeredAppliance.load(config, own, {
    onHeld: (flows) => strays.held(flows),
    onBounced: (packets) => strays.bounced(packets),
  });
  const crowding = new Crowding();
  const placement = new Placement(
    appliance,
    index,
    (server) => roster.member(server),
    (server) => !crowding.isCrowded(server),
  );
  placement.adopt(appliance.exceptions());
  const strays: Strays = new Strays({
    appliance,
    index,
    memberOf: (server) => roster.member(server),
    memberOfSlot: (slot) => roster.ofSlot(slot),
    seesRecords: () => store.connected,
    isLiving: (member) => roster.living().some((living) => living.id === member.id),
    episodeOfSlot: (slot) => coordinator.episodeOfSlot(slot),
    adopt: (server, what, timeoutMs) => sessions.adopt(server, what, timeoutMs),
    adopted: (server, takeoverId, result) => coordinator.takenOver(server, { batch: 0, takeoverId, results: [result] }),
  });
  const coordinator: TakeoverCoordinator = new TakeoverCoordinator({
    appliance,
    placement,
    index,
    bucket: store.connections,
    events,
    strays,
    living: () => roster.living(),
    memberOf: (server) => roster.member(server),
    holds: (server, incarnation) => roster.holds(server, incarnation),
    began: (server, reason) => membership.takeoverBegan(server, reason),
    buried: (server) => {
      membership.takeoverFinished(server, "its connections were taken over");
      admit(server);
    },
  });

  const serves = (server: string) => {
    const state = membership.member(server)?.state;
    return (state === "UP" || state === "DRAINING") && membership.heirs().includes(server);
  };
  const accepts = (server: string) => roster.living().some((living) => living.id === server);
  const memberOf = (server: string) => roster.member(server);
  const migrations = new Migrations({ appliance, placement, index, events, sessions, memberOf, serves, accepts });
  const drains = new Drains({ index, migrations, targets: () => roster.living().map(({ id: server }) => server) });

  /** After a server began or ceased to drain: who gets new flows has changed. */
  function rotate(server: string, state: "up" | "draining"): void {
    const member = roster.member(server);
    if (!member) return;
    place();
    appliance.setServer(member, state);
  }

  /** Who gets new flows has changed. */
  function place(): void {
    const living = roster.living();
    placement.change([...living, ...coordinator.heldMembers()], living);
  }

  function startDrain(server: string, reason: string): void {
    membership.drain(server, reason);
    rotate(server, "draining");
  }

  /** Its agent is being stopped. */
  async function leave(server: string, timeoutMs: number): Promise<void> {
    let remaining = index.count(server);
    try {
      if (drains.target(server) === undefined) throw new BatonError("UNSUPPORTED", "There is nowhere to go.");
      startDrain(server, "its agent is being stopped");
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
    const member = membership.member(server);
    const joiner = roster.member(server);
    if (member?.state !== "JOINING" || !joiner || coordinator.isOpen(server)) return;
    const earlier = index.owners().find((o) => o.server === server && o.incarnation < member.incarnation);
    if (earlier) {
      void coordinator.fenced(joiner, earlier.incarnation, "an earlier life left connections", false);
      return;
    }
    appliance.setServer(joiner, "up");
    const up = [...roster.living().filter(({ id: other }) => other !== server), joiner];
    placement.change([...up, ...coordinator.heldMembers()], up);
    membership.admit(server);
  }

  membership.on("suspected", (server, incarnation, reason) => {
    const member = roster.member(server);
    if (member && roster.holds(server, incarnation)) coordinator.suspected(member, incarnation, reason);
  });
  membership.on("unsuspected", (server) => {
    const member = roster.member(server);
    if (member) void coordinator.unsuspected(member);
  });
  membership.on("fenced", (server, incarnation, reason) => {
    const member = roster.member(server);
    if (member && member.slot > 0)
      void coordinator.fenced(member, incarnation, reason, roster.holds(server, incarnation));
  });
  membership.on("joining", ({ id: server }) => admit(server));
  membership.on("changed", ({ id: server, state, reason }) => {
    events.append({ kind: "server", from: server, result: "ok", reason: `${state}: ${reason}` });
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
      place();
    } catch (error) {
      log.error({ err: error, server, reason }, "who gets new connections stays as it was");
    }
  });
  sessions.on("leaving", (server, timeoutMs) => void leave(server, timeoutMs));
  sessions.on("closed", (server, incarnation, reason) => membership.goodbye(server, incarnation, reason));
  sessions.on("takenOver", (server, batch, acknowledge) => {
    if (batch.takeoverId === MIGRATION) {
      migrations.reported(server, batch.results);
      acknowledge();
      return;
    }
    coordinator
      .takenOver(server, batch)
      .then(acknowledge, (error) => log.error({ err: error }, "a batch was not taken"));
  });

  sessions.on("adopted", (server, result) => {
    void coordinator.takenOver(server, { batch: 0, takeoverId: "", results: [result] });
  });

  const model = new Model({
    config,
    id,
    store,
    membership,
    sessions,
    index,
    events,
    verdicts: () => appliance.verdicts(),
    migrations,
    drains,
    startDrain: (server) => startDrain(server, "drained by an operator"),
    endDrain: (server) => {
      membership.undrain(server);
      rotate(server, "up");
    },
    problems: () => (nats?.problem ? [`${nats.problem}.`] : []),
  });
  const metrics = new ControllerMetrics(id, {
    servers: () => model.servers(),
    connections: () => index.size,
    agents: () => sessions.list().length,
    storeConnected: () => store.connected,
    verdicts: () => appliance.verdicts(),
    held: () => appliance.heldTotals(),
  });
  void observe(events, metrics);

  watchConnections(store, index, coordinator, placement);
  setTimeout(() => void migrations.recover(), RECOVER_MS);
  membership.start();
  const api = await ApiServer.start({ listen: own.listen, socket: own.socket, control: model, agents: sessions });
  if (own.metrics) await serveMetrics(own.metrics, metrics.metrics, () => model.status().problems);
  const trim = setInterval(() => {
    store.connections.trimTombstones(TOMBSTONE_AGE_MS).catch((error) => log.warn({ err: error }, "old records stay"));
  }, TRIM_MS);
  events.append({ kind: "controller", from: id, result: "ok", reason: "started" });
  log.info({ id, listen: own.listen, pid: process.pid }, "the controller is up");

  const stop = async () => {
    clearInterval(trim);
    coordinator.close();
    membership.close();
    await api.close();
    await events.close();
    await store.close();
    // Steering goes on without us, and so does the embedded store: the connections must not notice.
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void stop());
}

async function startNats(config: Config, id: string): Promise<EmbeddedNats> {
  if (!config.nats.embedded)
    throw new BatonError("INTERNAL", "an embedded store was asked for, and others are configured");
  const { state } = controllerOf(config, id);
  const name = `${config.cluster}-${id}`;
  return EmbeddedNats.start({ state, name, listen: config.nats.listen, maxPayload: maxPayload(config) });
}

function watchConnections(
  store: Store,
  index: ConnectionIndex,
  coordinator: TakeoverCoordinator,
  placement: Placement,
): void {
  store.connections.watch({
    onRecord: (id, revision, bytes) => {
      try {
        index.apply(id, revision, bytes);
      } catch (error) {
        if (!(error instanceof BatonError)) throw error;
        log.error({ err: error, connection: id }, "a record cannot be read");
      }
    },
    onRemoved: (id) => {
      const entry = index.removed(id);
      if (entry) placement.ended(entry);
      coordinator.ended(id);
    },
    onTakeover: (_key, revision, bytes) => coordinator.seen(bytes, revision),
    onCaughtUp: () => {},
  });
}

/** Counts what happens from now on; what an earlier controller has logged was counted there. */
async function observe(events: EventLog, metrics: ControllerMetrics): Promise<void> {
  const known = events.recent().length;
  let seen = 0;
  for await (const event of events.follow()) if (++seen > known) metrics.observe(event);
}
