import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../proto/config/index.js";
import { natsUrls } from "../proto/config/index.js";
import { BatonError } from "../proto/errors.js";
import { logger } from "../proto/log.js";
import { root } from "../proto/paths.js";
import type {
  ConnectionDetail,
  ConnectionMessage,
  DrainProgressMessage,
  EventMessage,
  LiveConnection,
  ServerMessage,
  StatusMessage,
} from "../proto/rpc/index.js";
import type { Store } from "../proto/store/index.js";
import type { Phase } from "../proto/vocabulary.js";
import type { AgentSessions } from "./agents/index.js";
import type { ConnectionFilter, ControlModel, EventSource } from "./api/index.js";
import {
  type ConnectionEntry,
  type ConnectionIndex,
  connectionDetail,
  connectionRows,
  recordedId,
} from "./connections/index.js";
import type { Membership } from "./membership/index.js";
import type { Drains, Migrations } from "./migration/index.js";
import type { HealthDriver, OverloadDriver, Rotation } from "./policy/index.js";

const log = logger("model");
/** Agents answer at once or not at all: a list must not wait for a dead one. */
const DESCRIBE_MS = 500;
const READING_CONTENT = "it is reading its content: what has no digest yet is not protected";

export const version: string = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version;

export interface ModelParts {
  config(): Config;
  id: string;
  store: Store;
  membership: Membership;
  sessions: AgentSessions;
  index: ConnectionIndex;
  events: EventSource;
  verdicts(): Record<string, number>;
  migrations: Migrations;
  drains: Drains;
  overload: OverloadDriver;
  health: HealthDriver;
  rotation: Rotation;
  /** Sentences about what is wrong with this appliance itself. */
  problems(): string[];
}

/** What the API shows, read from the parts at the moment of the question. */
export class Model implements ControlModel {
  constructor(private readonly parts: ModelParts) {}

  get events(): EventSource {
    return this.parts.events;
  }

  status(): StatusMessage {
    const { id, store, index } = this.parts;
    const config = this.parts.config();
    const servers = this.servers();
    const problems = [
      ...this.parts.problems(),
      ...(store.connected ? [] : ["The store is not connected: nothing new is protected until it is back."]),
      ...servers
        .filter(({ state }) => state !== "UP")
        .map(({ id: server, state, reason }) => `Server ${server} is ${state}: ${reason}.`),
      ...servers
        .map(({ id: server }) => ({ server, note: this.parts.health.note(server) }))
        .filter(({ note }) => note !== "")
        .map(({ server, note }) => `Server ${server}: ${note}.`),
      ...this.parts.sessions.list().flatMap(({ server, load }) => (load?.problems ?? []).map((p) => `${server}: ${p}`)),
    ];
    return {
      version,
      leader: id,
      servers,
      vips: config.vips,
      services: config.services.map(({ name, port, protocol }) => ({ name, port, protocol })),
      problems,
      store: { url: natsUrls(config).join(","), connected: store.connected, embedded: config.nats.embedded },
      verdicts: this.parts.verdicts(),
      connections: index.size,
    };
  }

  servers(): ServerMessage[] {
    const { membership, sessions, index } = this.parts;
    return membership.members().map(({ id, slot, generation, incarnation, state, reason, leaseAgeMs }) => {
      const agent = sessions.get(id);
      const load = agent?.load;
      const contentReady = load?.contentReady ?? false;
      const standing = this.parts.overload.standing(id);
      const reading = load && !contentReady ? READING_CONTENT : "";
      return {
        id,
        state,
        connections: index.count(id),
        load: load
          ? {
              cpu: load.cpu,
              pressure: load.pressure,
              loopDelayMs: load.loopDelayMs,
              egressBytesPerSecond: load.egressBytesPerSecond,
            }
          : null,
        leaseAgeMs: leaseAgeMs ?? 0,
        // What says most of a server that is up comes first.
        reason: (state === "UP" && (this.parts.health.note(id) || standing.sentence || reading)) || reason,
        incarnation,
        generation,
        slot,
        addresses: agent?.hello.addresses ?? [],
        contentReady,
        overloadIndex: standing.index,
      };
    });
  }

  async *connections(filter: ConnectionFilter): AsyncGenerator<ConnectionMessage> {
    const { index } = this.parts;
    const wanted = [...index.entries(filter.server || undefined)];
    const owners = [...new Set(wanted.map(({ serverId }) => serverId))];
    const answers = await Promise.all(owners.map((server) => this.describe(server, { all: true })));
    const live = new Map(answers.flat().map((connection) => [connection.id, connection]));
    for (const { id } of wanted) {
      const entry = index.get(id); // as it is now: the rows of a bundle are of one moment
      if (!entry || entry.control) continue; // it comes with that one
      const rows = this.bundle(entry, live);
      if (!filter.protocol || rows[0]?.protocol === filter.protocol) yield* rows;
    }
  }

  /** A connection, and what goes with it. */
  private bundle(entry: ConnectionEntry, live: Map<string, LiveConnection>): ConnectionMessage[] {
    return [entry, ...this.parts.index.related(entry.id)].flatMap((one) => this.rows(one, live.get(one.id)));
  }

  /** None: its record cannot be read; it is some later version's. */
  private rows(entry: ConnectionEntry, connection: LiveConnection | undefined): ConnectionMessage[] {
    try {
      return connectionRows(entry, { connection, phase: this.imposed(entry) });
    } catch (error) {
      if (!(error instanceof BatonError)) throw error;
      log.error({ err: error, connection: entry.id }, "a record cannot be read");
      return [];
    }
  }

  async connection(row: string): Promise<ConnectionDetail | undefined> {
    const { index, membership } = this.parts;
    const id = recordedId(row);
    const entry = index.get(id);
    if (!entry) return undefined;
    const ids = [id, ...index.related(id).map((related) => related.id)];
    const servers = membership.members().map((member) => member.id);
    const answers = await Promise.all(
      servers.map(async (server) => {
        const described = await this.describe(server, { ids, detail: true });
        return { server, described, found: described.find((connection) => connection.id === id) };
      }),
    );
    const histories = answers.flatMap(({ server, found }) => (found ? [{ server, history: found.history }] : []));
    const owner = answers.find(({ server }) => server === entry.serverId);
    const live = new Map(owner?.described.map((connection) => [connection.id, connection]));
    const related = this.bundle(entry, live).slice(1);
    return connectionDetail(entry, { connection: owner?.found, phase: this.imposed(entry) }, histories, related);
  }

  private describe(
    server: string,
    what: { ids?: string[]; all?: boolean; detail?: boolean },
  ): Promise<LiveConnection[]> {
    return this.parts.sessions.describe(server, what, DESCRIBE_MS);
  }

  async move(row: string, to: string, dryRun: boolean): Promise<EventMessage> {
    const { migrations } = this.parts;
    const id = recordedId(row);
    if (!dryRun) return migrations.move(id, to);
    const plan = migrations.plan(id, to);
    const nothing = { bundle: plan.entry.bundleId, reason: "dry run", phases: {}, heldPackets: 0, heldUs: 0 };
    return {
      ...nothing,
      ...{ time: "", kind: "migration", connection: plan.entry.id, from: plan.from.id, to: plan.to.id, result: "ok" },
    };
  }

  async *drain(server: string, timeoutMs: number, dryRun: boolean): AsyncGenerator<DrainProgressMessage> {
    const { drains, index } = this.parts;
    if (!dryRun) {
      this.parts.rotation.take(server, "operator", "drained by an operator");
      await this.parts.membership.remember(server, true);
      yield* drains.drain(server, timeoutMs);
      return;
    }
    const planned = [...index.entries(server)].map(({ id }) => [
      id,
      drains.target(server) ?? "nowhere: no other server is up",
    ]);
    yield { moved: 0, remaining: planned.length, finished: true, reasons: Object.fromEntries(planned) };
  }

  async undrain(server: string): Promise<void> {
    const { membership, drains, rotation } = this.parts;
    const remembered = membership.isDrained(server);
    if (remembered) await membership.remember(server, false);
    drains.cancel(server);
    if (remembered && membership.member(server)?.state !== "DRAINING") {
      rotation.forget(server); // one that is not there joins as if it had never been drained
      return;
    }
    const reason = rotation.give(server, "operator", "agent");
    if (reason !== undefined) throw new BatonError("UNSUPPORTED", `${server} stays out of rotation: ${reason}.`);
  }

  /** A server that is being held or taken over holds all its connections. */
  private imposed(entry: ConnectionEntry): Phase | undefined {
    const owner = this.parts.membership.member(entry.serverId);
    const held = owner?.state === "HELD" || owner?.state === "TAKEOVER";
    return held && owner.incarnation === entry.incarnation ? "HELD" : undefined;
  }
}
