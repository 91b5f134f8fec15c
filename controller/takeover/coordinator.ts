import { wallClockUs } from "../../proto/clock.js";
import type { Flow } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import { decodeTakeover, encodeTakeover, type Takeover } from "../../proto/record.js";
import { flowOfMessage, type TakenOver, type TakeoverResult } from "../../proto/rpc/index.js";
import { ConflictError, type ConnectionsBucket } from "../../proto/store/index.js";
import type { ConnectionIndex } from "../connections/index.js";
import type { EventLog } from "../events/index.js";
import type { Appliance, Member, Released } from "./appliance.js";
import { Episode } from "./episode.js";
import type { Placement } from "./placement.js";
import type { Strays } from "./strays.js";

const log = logger("takeover");
const CHECK_MS = 20;

export interface CoordinatorDeps {
  appliance: Appliance;
  placement: Placement;
  index: ConnectionIndex;
  bucket: ConnectionsBucket;
  events: EventLog;
  strays: Strays;
  /** Servers that are UP, with an agent connected. */
  living(): Member[];
  memberOf(id: string): Member | undefined;
  /** Whether the server's slot still belongs to this incarnation. */
  holds(server: string, incarnation: number): boolean;
  /** The takeover is written: the server is beyond return in this incarnation. */
  began(server: string, reason: string): void;
  /** The server's slot was closed: it may come back with a new generation. */
  buried(server: string, incarnation: number): void;
}

/**
 * Takes the connections of dead servers over: holds, announces, points each flow at its heir as it becomes ready, and closes
 * the slot when none is left. Everything it must not forget is in the store: a controller that is started again finds the open takeovers
 * there and goes on.
 */
export class TakeoverCoordinator {
  private readonly episodes = new Map<string, Episode>();
  /** Takeovers of servers whose slot is not known yet, at the start. */
  private unplaced: Array<{ bytes: Uint8Array; revision: number }> = [];
  private readonly timer: NodeJS.Timeout;

  constructor(private readonly deps: CoordinatorDeps) {
    this.timer = setInterval(() => this.check(), CHECK_MS);
    this.timer.unref();
  }

  close(): void {
    clearInterval(this.timer);
  }

  /** Whether the server has connections that are being taken over. */
  isOpen(server: string): boolean {
    return this.episodes.has(server);
  }

  /** Whether any server has. */
  get isBusy(): boolean {
    return this.episodes.size > 0;
  }

  episodeOfSlot(slot: number): Episode | undefined {
    for (const episode of this.episodes.values()) if (episode.holds && episode.dead.slot === slot) return episode;
    return undefined;
  }

  // ---- what membership says ----

  /** @param holds whether the slot is this incarnation's; see Episode. */
  suspected(dead: Member, incarnation: number, reason: string, holds = true): void {
    if (this.episodes.has(dead.id)) return;
    this.episodes.set(dead.id, new Episode(dead, incarnation, reason, performance.now(), holds));
    if (holds) this.deps.appliance.setServer(dead, "held");
    log.warn({ server: dead.id, incarnation, reason, holds }, "suspected: its packets are held");
  }

  /** It renewed its lease after all. */
  async unsuspected(member: Member): Promise<void> {
    const episode = this.episodes.get(member.id);
    if (!episode || episode.fencedAt !== undefined) return;
    this.episodes.delete(member.id);
    this.deps.appliance.setServer(member, "up");
    const mine = this.deps.appliance.held().filter(({ flow }) => this.ownerOf(flow)?.id === member.id);
    await this.deps.appliance.assign(mine.map(({ flow }) => ({ flow, member })));
    for (const { flow } of mine) this.deps.appliance.forget(flow);
    log.info({ server: member.id, released: mine.length }, "it lives: its packets go on");
  }

  /** Nothing leaves the server any more. */
  async fenced(dead: Member, incarnation: number, reason: string, holds = true): Promise<void> {
    this.suspected(dead, incarnation, reason, holds);
    const episode = this.episodes.get(dead.id);
    if (episode?.incarnation !== incarnation || episode.fencedAt !== undefined) return;
    episode.fencedAt = episode.since();
    await this.announce(episode, reason);
  }

  /** Takeovers that have no survivors, or have lost one that had not done its share, are announced anew. */
  private reannounce(): void {
    for (const episode of this.episodes.values()) {
      if (episode.fencedAt === undefined || episode.announcing) continue;
      const living = new Set(this.deps.living().map(({ id }) => id));
      const lost = episode.announced && episode.survivors.some(({ id }) => !living.has(id));
      const heirless = episode.survivors.length === 0 && this.survivorsOf(episode).length > 0;
      if (heirless || (lost && this.isUnclaimed(episode))) void this.announce(episode, episode.reason);
    }
  }

  private isUnclaimed({ dead, incarnation }: Episode): boolean {
    return this.deps.index.count(dead.id, incarnation) > 0;
  }

  private survivorsOf({ dead, holds }: Episode): Member[] {
    return this.deps.living().filter(({ id }) => !holds || id !== dead.id);
  }

  // ---- the store ----

  /** Our own watch of the records' stream has reached the takeover. Also how a restarted controller learns of open ones. */
  seen(bytes: Uint8Array, revision: number): void {
    const takeover = decodeTakeover(bytes);
    let episode = this.episodes.get(takeover.serverId);
    if (takeover.finished) return;
    if (!episode) {
      const dead = this.deps.memberOf(takeover.serverId);
      if (!dead) {
        this.unplaced.push({ bytes, revision });
        return;
      }
      this.suspected(
        dead,
        takeover.incarnation,
        takeover.reason,
        this.deps.holds(takeover.serverId, takeover.incarnation),
      );
      episode = this.episodes.get(dead.id) as Episode;
      episode.fencedAt = 0;
      log.info({ takeover: takeover.id }, "an open takeover goes on");
    }
    if (episode.incarnation !== takeover.incarnation) return;
    episode.takeover = takeover;
    episode.revision = revision;
    episode.survive(takeover.survivors.flatMap((id) => this.deps.memberOf(id) ?? []));
    episode.announced = true;
    for (const entry of this.deps.index.entries(takeover.serverId, takeover.incarnation))
      episode.unsettled.add(entry.id);
    this.deps.strays.look(episode);
    this.check();
  }

  /** A connection's record is gone. */
  ended(id: string): void {
    for (const episode of this.episodes.values()) episode.unsettled.delete(id);
  }

  private async announce(episode: Episode, reason: string): Promise<void> {
    const { dead, incarnation } = episode;
    const survivors = this.survivorsOf(episode);
    if (survivors.length === 0) {
      log.error({ server: dead.id }, "no server is left to take its connections over; they wait for one");
      episode.survivors = [];
      return;
    }
    episode.survive(survivors);
    const now = wallClockUs();
    const takeover: Takeover = {
      id: episode.id,
      serverId: dead.id,
      incarnation,
      survivors: episode.survivors.map(({ id }) => id),
      declaredAtUs: now,
      suspectedAtUs: now - episode.since(),
      reason,
      finished: false,
      round: (episode.takeover?.round ?? 0) + 1,
    };
    episode.announcing = true;
    // The survivors begin while the appliance's tables are made ready for the answers to their probes: what is written leaves
    // at the end of this turn of the loop.
    const written = this.write(episode, takeover);
    await nextTurn();
    this.deps.placement.change([...survivors, ...this.heldMembers()], survivors);
    if (episode.holds) this.deps.appliance.setServer(dead, "takeover");
    await written;
    episode.announcing = false;
    if (episode.holds) this.deps.began(dead.id, reason);
  }

  private async write(episode: Episode, takeover: Takeover): Promise<void> {
    for (;;) {
      try {
        episode.revision = await this.deps.bucket.commitTakeover(
          takeover.serverId,
          takeover.incarnation,
          encodeTakeover(takeover),
          episode.revision,
        );
        episode.takeover = takeover;
        return;
      } catch (error) {
        if (error instanceof ConflictError) {
          if (error.present.removed) return;
          episode.revision = error.present.revision; // an earlier controller's word; ours is newer
        } else log.error({ err: error, takeover: takeover.id }, "the takeover cannot be written yet");
      }
    }
  }

  // ---- what agents say ----

  /** A batch of connections whose takeover ended on `server`. */
  async takenOver(server: string, batch: TakenOver): Promise<void> {
    const heir = this.deps.memberOf(server);
    const to: Array<{ flow: Flow; member: Member }> = [];
    for (const result of batch.results) {
      const flow = result.flow && flowOfMessage(result.flow);
      if (!flow) continue;
      if (result.result === "ok" && heir) to.push({ flow, member: heir });
      else this.deps.appliance.drop(flow);
    }
    const released = to.length > 0 ? await this.deps.appliance.assign(to) : [];
    this.deps.placement.moved(to);
    for (const { flow } of to) this.deps.appliance.forget(flow);
    let next = 0;
    for (const result of batch.results) {
      const took = result.result === "ok" && heir ? released[next++] : undefined;
      this.settled(server, batch.takeoverId, result, took);
    }
    this.check();
  }

  private settled(server: string, takeoverId: string, result: TakeoverResult, released: Released | undefined): void {
    const episode = this.episodes.get(result.from);
    const ours = episode?.id === takeoverId ? episode : undefined;
    ours?.unsettled.delete(result.connectionId);
    const fenced = ours?.fencedAt ?? 0;
    const begun = ours ? Math.max(0, ours.since() - Math.max(0, ...Object.values(result.phasesUs))) : 0;
    const phases: Record<string, number> = { suspected: 0, fenced };
    for (const [phase, us] of Object.entries(result.phasesUs)) phases[phase] = begun + us;
    if (released) phases.released = ours?.since() ?? 0;
    this.deps.events.append({
      kind: "takeover",
      connection: result.connectionId,
      from: result.from,
      to: server,
      result: result.result === "finished" || result.result === "gone" ? "ok" : result.result,
      reason: result.reason || (result.result === "ok" ? (ours?.reason ?? "") : result.result),
      phases,
      heldPackets: released?.packets ?? 0,
      heldUs: released?.heldUs ?? 0,
    });
  }

  // ---- the end ----

  private check(): void {
    for (const { bytes, revision } of this.unplaced.splice(0)) this.seen(bytes, revision);
    this.reannounce();
    for (const [server, episode] of this.episodes) {
      const owned = this.deps.index.count(server, episode.incarnation);
      if (!episode.takeover || !episode.isSettled(owned, performance.now())) continue;
      if (this.deps.strays.waiting(episode)) continue;
      this.episodes.delete(server);
      void this.bury(episode, episode.takeover);
    }
  }

  private async bury(episode: Episode, takeover: Takeover): Promise<void> {
    const { dead, incarnation } = episode;
    // Connections that still wait for their client are at their heirs already: the tables name those before the slot goes.
    const waiting = [...episode.unsettled].flatMap((id) => {
      const entry = this.deps.index.get(id);
      const member = entry && this.deps.memberOf(entry.serverId);
      return entry && member ? [{ flow: entry.flow(), member }] : [];
    });
    await this.deps.appliance.assign(waiting);
    this.deps.placement.moved(waiting);
    const living = this.deps.living();
    this.deps.placement.change([...living, ...this.heldMembers()], living);
    if (episode.holds) this.deps.appliance.setServer(dead, "down");
    await this.write(episode, { ...takeover, finished: true });
    this.deps.events.append({
      kind: "server",
      from: dead.id,
      result: "ok",
      reason: `all connections taken over: ${episode.reason}`,
      phases: { suspected: 0, fenced: episode.fencedAt ?? 0, finished: episode.since() },
    });
    log.info({ server: dead.id, incarnation, us: episode.since() }, "taken over: the slot is closed");
    this.deps.buried(dead.id, incarnation);
  }

  heldMembers(): Member[] {
    return [...this.episodes.values()].filter(({ holds }) => holds).map(({ dead }) => dead);
  }

  private ownerOf(flow: Flow): Member | undefined {
    const entry = this.deps.index.ofFlow(flow);
    if (entry) return this.deps.memberOf(entry.serverId);
    const slot = this.deps.appliance.seen(flow)?.slot;
    const heldMember = this.heldMembers().find((member) => member.slot === slot);
    return heldMember ?? this.deps.living().find((member) => member.slot === slot) ?? this.deps.placement.homeOf(flow);
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
