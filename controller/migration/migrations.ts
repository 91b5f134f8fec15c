import { randomUUID } from "node:crypto";
import { BatonError } from "../../proto/errors.js";
import type { Flow } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import type { EventMessage, TakeoverResult } from "../../proto/rpc/index.js";
import type { AgentSessions } from "../agents/index.js";
import type { ConnectionEntry, ConnectionIndex } from "../connections/index.js";
import type { EventLog } from "../events/index.js";
import type { Appliance, Member } from "../takeover/appliance.js";
import type { Placement } from "../takeover/placement.js";

const log = logger("migration");
/** For the target to say whether it could. */
const PREPARE_MS = 2_000;
/** For the target to commit; then the owner takes the record back. */
const HANDOVER_MS = 1_000;
/** For either of them to say what came of it. The record says it otherwise. */
const REPORT_MS = 2_000;
/** Between looks at what an earlier controller left, while agents come back. */
const RECOVER_PAUSE_MS = 250;
/** In the packet path: past it the flow's packets go to the owner as committed at the beginning. */
const HOLD_MS = 5_000;

export interface MigrationsDeps {
  appliance: Appliance;
  placement: Placement;
  index: ConnectionIndex;
  events: EventLog;
  sessions: AgentSessions;
  memberOf(id: string): Member | undefined;
  /** Whose slot a record's packets belong to; nobody's while an earlier life of its server is being taken over. */
  ownerOf(entry: ConnectionEntry): Member | undefined;
  /** Whether the server may own connections now: UP or DRAINING, its agent connected. */
  serves(id: string): boolean;
  /** Whether it may get connections: UP, its agent connected. */
  accepts(id: string): boolean;
}

interface Running {
  id: string;
  settle(result: TakeoverResult | undefined, server: string): void;
}

type Ended = Omit<Parameters<EventLog["append"]>[0], "kind">;

/**
 * Moves connections between living servers, a bundle as its control connection:
 *
 *   prepare (target) ─► HELD (appliance) ─► freeze (owner) ─► state, commit (target) ─► released to the target: ok
 *       │ no                                    └──────────────── undone ─────────────► released to the owner: resumedOnOld
 *       └► refused
 *
 * What it must not forget is in the record: whose it is. Where neither of the two says how it ended, the record does.
 */
export class Migrations {
  /** By the migration's own name. */
  private readonly running = new Map<string, Running>();
  /** Connections that are on the move. */
  private readonly moving = new Set<string>();

  constructor(private readonly deps: MigrationsDeps) {}

  /**
   * Who could go where; `entry` is the bundle's control connection, whichever of its connections is named.
   * Throws NOT_FOUND, UNSUPPORTED (with why).
   */
  plan(id: string, to: string): { entry: ConnectionEntry; from: Member; to: Member; flow: Flow } {
    const named = this.deps.index.get(id);
    if (!named) throw new BatonError("NOT_FOUND", `There is no connection "${id}".`);
    const entry = named.isRelated ? named.control : named;
    if (!entry) throw new BatonError("UNSUPPORTED", "The connection that it goes with is not there.");
    const from = this.deps.ownerOf(entry);
    const target = this.deps.memberOf(to);
    if (!target) throw new BatonError("NOT_FOUND", `There is no server "${to}".`);
    if (entry.serverId === to) throw new BatonError("UNSUPPORTED", `${to} owns that connection already.`);
    if (!from || !this.deps.serves(from.id)) {
      throw new BatonError("UNSUPPORTED", `${entry.serverId}, which owns the connection, is not up.`);
    }
    if (!this.deps.accepts(to)) throw new BatonError("UNSUPPORTED", `${to} takes no connections now.`);
    if (this.moving.has(entry.id)) throw new BatonError("UNSUPPORTED", "The connection is being moved.");
    return { entry, from, to: target, flow: entry.flow() };
  }

  /**
   * Throws as `plan`; whatever happens from there on is the event that it returns.
   * @param why part of the event's reason, where it was nobody's command.
   */
  async move(named: string, to: string, why = ""): Promise<EventMessage> {
    const { entry, from, to: target, flow } = this.plan(named, to);
    const { id, bundleId: bundle } = entry;
    const migration = randomUUID();
    const startedAt = performance.now();
    const phases: Record<string, number> = {};
    const since = () => Math.round((performance.now() - startedAt) * 1000);
    this.moving.add(id);
    try {
      const answer = await this.deps.sessions.prepare(target.id, { migration, connectionId: id }, PREPARE_MS);
      phases.prepared = since();
      const done = { connection: id, bundle, from: from.id, to: target.id, phases };
      const because = (reason: string) => [reason, why].filter(Boolean).join("; ");
      if (!answer.ready) return this.ended({ ...done, result: "refused", reason: because(answer.reason) });
      try {
        this.deps.placement.hold(flow, from, HOLD_MS);
      } catch (error) {
        // Its owner was suspected meanwhile, and packets of the flow are held already; or the table is full.
        this.deps.sessions.send(target.id, { cancel: { migration } });
        return this.ended({ ...done, result: "refused", reason: because((error as Error).message) });
      }
      phases.held = since();
      const outcome = await this.handOver(migration, id, from, target);
      phases.reported = since();
      const told = Object.entries(outcome.result?.phasesUs ?? {});
      const begun = phases.reported - Math.max(0, ...told.map(([, us]) => us));
      for (const [phase, us] of told) phases[phase] = begun + us;
      const owner = outcome.owner;
      if (!owner) {
        this.deps.sessions.send(target.id, { cancel: { migration } });
        const reason = because("its owner is gone: its takeover goes on with it");
        return this.endedAll({ ...done, result: "failed", reason });
      }
      const [released] = await this.deps.appliance.assign([{ flow, member: owner }]);
      this.deps.placement.settled(flow, owner);
      this.deps.appliance.forget(flow);
      phases.released = since();
      const moved = owner.id === target.id;
      if (!moved) this.deps.sessions.send(target.id, { cancel: { migration } });
      return this.endedAll({
        ...done,
        result: moved ? "ok" : "resumedOnOld",
        reason: because(outcome.result?.reason ?? (moved ? "" : "nobody said how it ended; the record did")),
        heldPackets: released?.packets ?? 0,
        heldUs: phases.released - phases.held,
      });
    } finally {
      this.moving.delete(id);
      this.deps.placement.letGo(flow);
    }
  }

  /** Who has the connection in the end; no owner: it died, and others take it over. */
  private async handOver(
    migration: string,
    id: string,
    from: Member,
    to: Member,
  ): Promise<{ owner: Member | undefined; result?: TakeoverResult }> {
    const reported = new Promise<{ result: TakeoverResult | undefined; server: string }>((resolve) => {
      this.running.set(migration, { id, settle: (result, server) => resolve({ result, server }) });
    });
    const timer = setTimeout(() => this.running.get(migration)?.settle(undefined, ""), HANDOVER_MS + REPORT_MS);
    const freeze = { migration, connectionId: id, target: to.id, deadlineMs: HANDOVER_MS };
    if (!this.deps.sessions.send(from.id, { freeze }))
      log.warn({ migration, server: from.id }, "the owner is not there");
    const { result, server } = await reported;
    clearTimeout(timer);
    this.running.delete(migration);
    if (result) return { owner: server === to.id ? to : from, result };
    const owner = this.deps.index.get(id)?.serverId ?? "";
    log.warn({ migration, connection: id, owner }, "nobody said how a migration ended");
    return { owner: this.deps.serves(owner) ? this.deps.memberOf(owner) : undefined };
  }

  /**
   * After a restart: flows that an earlier controller held for a migration and did not release. By now its owner has handed over
   * or taken the record back; whose it is the record says. Ends when all are released, or their holds have run out.
   */
  async recover(): Promise<void> {
    const deadline = performance.now() + HOLD_MS;
    for (;;) {
      const left = this.deps.appliance.holding().filter(({ flow }) => !this.isMoving(flow));
      if (left.length === 0) return;
      const late = performance.now() > deadline;
      for (const { flow, slot } of left) {
        if (late) this.deps.placement.letGo(flow);
        else await this.releaseLeft(flow, slot);
      }
      if (late) return;
      await new Promise((resolve) => setTimeout(resolve, RECOVER_PAUSE_MS));
    }
  }

  private isMoving(flow: Flow): boolean {
    return this.moving.has(this.deps.index.ofFlow(flow)?.id ?? "");
  }

  /** @param slot of the server that owned it when it was held. */
  private async releaseLeft(flow: Flow, slot: number): Promise<void> {
    const entry = this.deps.index.ofFlow(flow);
    const owner = entry && this.deps.ownerOf(entry);
    if (!owner || !this.deps.serves(owner.id)) return; // it is to be taken over, or its agent is not back yet
    const [released] = await this.deps.appliance.assign([{ flow, member: owner }]);
    this.deps.placement.settled(flow, owner);
    this.deps.appliance.forget(flow);
    this.endedAll({
      connection: entry.id,
      bundle: entry.bundleId,
      to: owner.id,
      result: owner.slot === slot ? "resumedOnOld" : "ok",
      reason: "its controller was restarted in the middle of it",
      heldPackets: released?.packets ?? 0,
    });
  }

  /** What agents say about migrations. */
  reported(server: string, results: TakeoverResult[]): void {
    for (const result of results) this.running.get(result.from)?.settle(result, server);
  }

  private ended(event: Ended): EventMessage {
    return this.deps.events.append({ kind: "migration", ...event });
  }

  /** The connections that are related to this one have gone, or stayed, with it. What was held is counted once. */
  private endedAll(event: Ended & { connection: string }): EventMessage {
    for (const { id } of this.deps.index.related(event.connection)) {
      this.ended({ ...event, connection: id, heldPackets: 0, heldUs: 0 });
    }
    return this.ended(event);
  }
}
