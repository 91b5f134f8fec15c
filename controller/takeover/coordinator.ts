import { wallClockUs } from "../../proto/clock.js";
import { BatonError } from "../../proto/errors.js";
import type { Flow } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import { decodeTakeover, encodeTakeover, type Takeover } from "../../proto/record.js";
import { flowOfMessage, type TakenOver, type TakeoverResult } from "../../proto/rpc/index.js";
import { ConflictError, type ConnectionsBucket } from "../../proto/store/index.js";
import { inBackground } from "../background.js";
import type { ConnectionIndex } from "../connections/index.js";
import type { EventLog } from "../events/index.js";
import type { Appliance, Member, Released, SlotState } from "./appliance.js";
import { Episode, episodeId } from "./episode.js";
import type { Placement } from "./placement.js";
import type { Strays } from "./strays.js";

const log = logger("takeover");
const CHECK_MS = 20;
/** An announcement or an end that failed is tried again after so long. */
const RETRY_MS = 1_000;
/** Between attempts to write a takeover. */
const WRITE_MIN_MS = 20;
const WRITE_MAX_MS = 1_000;
/** After so long without an heir a successor inherits. Agents have found a controller that was started again by then. */
const HEIRLESS_MS = 1_000;
/** Results whose server has no slot yet wait so long, and so many batches of them; then its agent says them again. */
const WAIT_MS = 5_000;
const WAITING_MAX = 10_000;

export interface CoordinatorDeps {
  appliance: Appliance;
  placement: Placement;
  index: ConnectionIndex;
  bucket: Pick<ConnectionsBucket, "commitTakeover" | "removeTakeover">;
  events: Pick<EventLog, "append">;
  strays: Pick<Strays, "look" | "waiting">;
  /** Servers that are UP, with an agent connected. */
  living(): Member[];
  /** Those, or where there is none the DRAINING ones. */
  heirs(): Member[];
  memberOf(id: string): Member | undefined;
  /** Whether the server's slot belongs to this incarnation. */
  holds(server: string, incarnation: number): boolean;
  /** Whether packets that are sent to the server meet an agent. */
  serves(server: string): boolean;
  /** Whether its lease is held and its agent connected, whatever became of its earlier lives. */
  returned(server: string): boolean;
  /** Whether nothing of this life leaves the server any more. */
  isFenced(server: string, incarnation: number): boolean;
  /** The takeover is written: the server is beyond return in this incarnation. */
  began(server: string, reason: string): void;
  /** An open takeover keeps the server's successor out no longer. @param closed its slot as well: it may come back with a new generation. */
  freed(server: string, closed: boolean, reason: string): void;
}

/** Results of an heir that has no slot yet. */
interface Waiting {
  server: string;
  incarnation: number;
  batch: TakenOver;
  /** performance.now() */
  until: number;
  resolve(): void;
  reject(error: Error): void;
}

interface Finished {
  server: string;
  incarnation: number;
  revision: number;
  /** performance.now() at which this process learnt of it. */
  at: number;
}

/**
 * Takes the connections of dead servers over: holds, announces, points each flow at its heir as it becomes ready, and closes
 * the slot when none is left. Everything it must not forget is in the store: a controller that is started again finds the open takeovers
 * there and goes on.
 */
export class TakeoverCoordinator {
  /** Open takeovers, by episodeId. */
  private readonly episodes = new Map<string, Episode>();
  /** Takeovers that the store has as finished, by episodeId. */
  private readonly finished = new Map<string, Finished>();
  /** Takeovers of servers whose slot is not known yet, at the start. */
  private unplaced: Array<{ bytes: Uint8Array; revision: number }> = [];
  private readonly waiting: Waiting[] = [];
  private heirlessSince: number | undefined;
  private readonly timer: NodeJS.Timeout;
  private closed = false;

  constructor(private readonly deps: CoordinatorDeps) {
    this.timer = setInterval(() => this.check(), CHECK_MS);
    this.timer.unref();
  }

  close(): void {
    this.closed = true;
    clearInterval(this.timer);
  }

  /** Whether something of the server's lives before this one has to be taken over before it joins. */
  keepsOut(server: string, incarnation: number): boolean {
    const open = [...this.episodes.values()].some(({ dead, yielded }) => dead.id === server && !yielded);
    const isLeft = (life: { server: string; incarnation: number }) =>
      life.server === server &&
      life.incarnation < incarnation &&
      !this.episodes.has(episodeId(server, life.incarnation));
    return open || this.deps.index.owners().some(isLeft);
  }

  /** Whether the slot of this life is closed for good: nothing of it is left, or its successor has inherited it. */
  isClosed(server: string, incarnation: number): boolean {
    const id = episodeId(server, incarnation);
    const episode = this.episodes.get(id);
    return episode ? episode.yielded : this.finished.has(id) && this.deps.index.count(server, incarnation) === 0;
  }

  /** Whether any server has. */
  get isBusy(): boolean {
    return this.episodes.size > 0;
  }

  episodeOfSlot(slot: number): Episode | undefined {
    for (const episode of this.episodes.values()) {
      if (episode.holds && !episode.closing && episode.dead.slot === slot) return episode;
    }
    return undefined;
  }

  /** Who gets flows, now that a server's state has changed. */
  place(heirs: Member[] = this.deps.heirs()): void {
    this.deps.placement.change([...this.deps.living(), ...this.heldMembers()], heirs);
  }

  // ---- what membership says ----

  /** @param holds whether the slot is this incarnation's; see Episode. */
  suspected(dead: Member, incarnation: number, reason: string, holds = true): void {
    const id = episodeId(dead.id, incarnation);
    if (this.episodes.has(id) || this.isClosed(dead.id, incarnation)) return;
    const before = this.deps.appliance.slotState(dead.slot);
    this.episodes.set(id, new Episode(dead, incarnation, reason, performance.now(), holds, before));
    if (holds) this.deps.appliance.setServer(dead, "held");
    log.warn({ server: dead.id, incarnation, reason, holds }, "suspected: its packets are held");
  }

  /** It renewed its lease after all. @param state of its slot now; undefined: what it was before, the server has not joined yet */
  async unsuspected(member: Member, incarnation: number, state?: SlotState): Promise<void> {
    const id = episodeId(member.id, incarnation);
    const episode = this.episodes.get(id);
    if (!episode || episode.fencedAt !== undefined) return;
    this.episodes.delete(id);
    if (episode.holds) this.deps.appliance.setServer(member, state ?? episode.before);
    if (state !== undefined && state !== episode.before) this.place();
    const mine = this.deps.appliance.held().filter(({ flow }) => this.ownerOf(flow)?.id === member.id);
    await this.deps.appliance.assign(mine.map(({ flow }) => ({ flow, member })));
    for (const { flow } of mine) this.deps.appliance.forget(flow);
    log.info({ server: member.id, released: mine.length }, "it lives: its packets go on");
  }

  /** Nothing leaves the server any more. */
  fenced(dead: Member, incarnation: number, reason: string, holds = true): void {
    this.suspected(dead, incarnation, reason, holds);
    const episode = this.episodes.get(episodeId(dead.id, incarnation));
    if (!episode || episode.fencedAt !== undefined) return;
    episode.fencedAt = episode.since();
    this.announce(episode, reason);
  }

  /** Takeovers that have no survivors, or have lost one that had not done its share, are announced anew. */
  private reannounce(): void {
    const heirs = new Set(this.deps.heirs().map(({ id }) => id));
    for (const episode of this.episodes.values()) {
      if (episode.fencedAt === undefined || this.rests(episode)) continue;
      const lost = episode.announced && episode.survivors.some(({ id }) => !heirs.has(id));
      const heirless = episode.survivors.length === 0 && this.survivorsOf(episode).length > 0;
      if (heirless || (lost && this.isUnclaimed(episode))) this.announce(episode, episode.reason);
    }
  }

  private isUnclaimed({ dead, incarnation }: Episode): boolean {
    return this.deps.index.count(dead.id, incarnation) > 0;
  }

  private survivorsOf({ dead, holds }: Episode): Member[] {
    return this.deps.heirs().filter(({ id }) => !holds || id !== dead.id);
  }

  /** Lives that ended and left records, and that nobody has spoken of: they were heirs without a slot, or a record came late. */
  private findForgotten(): void {
    for (const { server, incarnation } of this.deps.index.owners()) {
      if (this.episodes.has(episodeId(server, incarnation)) || !this.deps.isFenced(server, incarnation)) continue;
      const dead = this.deps.memberOf(server);
      const holds = this.deps.holds(server, incarnation);
      if (dead) this.fenced(dead, incarnation, "an earlier life left connections", holds);
    }
  }

  /**
   * Where no heir is left, and none has come for a while, the successors of the dead inherit: their slots are closed as they are, so that they
   * can join, and whoever has joined is an heir. What comes for these connections meanwhile is lost on its way; the clients repeat it.
   */
  private yieldSlots(now: number): void {
    if (this.deps.heirs().length > 0) {
      this.heirlessSince = undefined;
      return;
    }
    this.heirlessSince ??= now;
    if (now - this.heirlessSince < HEIRLESS_MS) return;
    for (const episode of [...this.episodes.values()]) {
      const { dead, fencedAt, yielded, holds } = episode;
      if (fencedAt === undefined || yielded || this.rests(episode) || !this.deps.returned(dead.id)) continue;
      episode.yieldSlot();
      if (holds) this.deps.appliance.setServer(dead, "down");
      log.warn({ takeover: episode.id }, "no server is left to take its connections over: its successor does");
      this.deps.freed(dead.id, holds, "no other server is left: its successor takes its connections over");
    }
  }

  // ---- the store ----

  /** Our own watch of the records' stream has reached the takeover. Also how a restarted controller learns of open ones. */
  seen(bytes: Uint8Array, revision: number): void {
    const takeover = decodeTakeover(bytes);
    const { serverId: server, incarnation } = takeover;
    const id = episodeId(server, incarnation);
    if (takeover.finished) {
      this.finished.set(id, { server, incarnation, revision, at: performance.now() });
      return;
    }
    this.finished.delete(id);
    let episode = this.episodes.get(id);
    if (!episode) {
      const dead = this.deps.memberOf(server);
      if (!dead) {
        this.unplaced.push({ bytes, revision });
        return;
      }
      this.suspected(dead, incarnation, takeover.reason, this.deps.holds(server, incarnation));
      episode = this.episodes.get(id) as Episode;
      episode.fencedAt = 0;
      log.info({ takeover: takeover.id }, "an open takeover goes on");
    }
    episode.takeover = takeover;
    episode.revision = revision;
    episode.survive(takeover.survivors.flatMap((survivor) => this.deps.memberOf(survivor) ?? []));
    episode.announced = true;
    for (const entry of this.deps.index.entries(server, incarnation)) episode.unsettled.add(entry.id);
    this.deps.strays.look(episode);
    this.check();
  }

  /** The takeover's document is gone. @param key as ConnectionsHandlers.onTakeoverRemoved */
  removed(key: string): void {
    this.finished.delete(key);
  }

  /**
   * Removes what the store has of takeovers that were over so long ago; but not of the life that the slot was given to last, by which a
   * controller that starts knows that this one is over.
   */
  async trim(olderThanMs: number): Promise<void> {
    for (const [id, { server, incarnation, revision, at }] of [...this.finished]) {
      if (performance.now() - at < olderThanMs || this.deps.holds(server, incarnation)) continue;
      await this.deps.bucket.removeTakeover(server, incarnation, revision);
      this.finished.delete(id);
    }
  }

  /** A connection's record is gone. */
  ended(id: string): void {
    for (const episode of this.episodes.values()) episode.unsettled.delete(id);
  }

  /** Not now: it is being announced or closed, or that failed a moment ago. */
  private rests({ busy, notBefore }: Episode): boolean {
    return busy || performance.now() < notBefore;
  }

  private run(episode: Episode, what: string, work: () => Promise<void>): void {
    episode.busy = true;
    const done = work()
      .catch((error) => {
        episode.notBefore = performance.now() + RETRY_MS;
        throw error;
      })
      .finally(() => {
        episode.busy = false;
      });
    inBackground(log, `${what} the takeover ${episode.id}`, done);
  }

  private announce(episode: Episode, reason: string): void {
    const survivors = this.survivorsOf(episode);
    if (survivors.length === 0) {
      log.error({ server: episode.dead.id }, "no server is left to take its connections over; they wait for one");
      episode.survivors = [];
      return;
    }
    this.run(episode, "announcing", async () => {
      try {
        await this.announceTo(survivors, episode, reason);
      } catch (error) {
        episode.survivors = []; // to be announced again
        throw error;
      }
    });
  }

  private async announceTo(survivors: Member[], episode: Episode, reason: string): Promise<void> {
    const { dead, incarnation } = episode;
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
    // The survivors begin while the appliance's tables are made ready for the answers to their probes: what is written leaves
    // at the end of this turn of the loop.
    await Promise.all([this.write(episode, takeover), nextTurn().then(() => this.turnTo(survivors, episode))]);
    if (episode.holds) this.deps.began(dead.id, reason);
  }

  private turnTo(survivors: Member[], { holds, dead }: Episode): void {
    this.place(survivors);
    if (holds) this.deps.appliance.setServer(dead, "takeover");
  }

  /** Tries until the store has it: without that nobody takes anything over. */
  private async write(episode: Episode, takeover: Takeover): Promise<void> {
    let saidAt = Number.NEGATIVE_INFINITY;
    for (let pauseMs = WRITE_MIN_MS; !this.closed; pauseMs = Math.min(2 * pauseMs, WRITE_MAX_MS)) {
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
          episode.revision = error.present.revision; // an earlier controller's word; ours is newer
          continue;
        }
        if (performance.now() - saidAt >= RETRY_MS) {
          saidAt = performance.now();
          log.error({ err: error, takeover: takeover.id }, "the takeover cannot be written yet");
        }
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  // ---- what agents say ----

  /**
   * A batch of connections whose takeover ended on `server`, in this life of it. One that has no slot yet, because it joins or this
   * controller has just started, would be sent packets that go astray: they stay held until it has. Rejects where the batch is to be said again;
   * then nothing of it has been counted.
   */
  takenOver(server: string, incarnation: number, batch: TakenOver): Promise<void> {
    if (this.canRelease(server, incarnation)) return this.release(server, batch);
    if (this.waiting.length >= WAITING_MAX) {
      return Promise.reject(new BatonError("LIMIT_REACHED", `${WAITING_MAX} batches wait for their servers to join`));
    }
    return new Promise((resolve, reject) => {
      this.waiting.push({ server, incarnation, batch, until: performance.now() + WAIT_MS, resolve, reject });
    });
  }

  private canRelease(server: string, incarnation: number): boolean {
    return this.deps.holds(server, incarnation) && this.deps.serves(server);
  }

  private releaseWaiting(now: number): void {
    for (const waiting of this.waiting.splice(0)) {
      const { server, incarnation, batch, until, resolve, reject } = waiting;
      if (this.canRelease(server, incarnation)) this.release(server, batch).then(resolve, reject);
      else if (now < until) this.waiting.push(waiting);
      else
        reject(new BatonError("DEADLINE_PASSED", `${server} has not joined: what it took over is not sent there yet.`));
    }
  }

  private async release(server: string, batch: TakenOver): Promise<void> {
    const heir = this.deps.memberOf(server);
    const to: Array<{ flow: Flow; member: Member }> = [];
    const entries = batch.results.map(({ connectionId }) => this.deps.index.get(connectionId));
    for (const [i, result] of batch.results.entries()) {
      const flow = result.flow && flowOfMessage(result.flow);
      if (!flow || entries[i]?.isRelated) continue; // where its control connection goes it goes
      if (result.result === "ok" && heir) to.push({ flow, member: heir });
      else this.deps.appliance.drop(flow);
    }
    const released = to.length > 0 ? await this.deps.appliance.assign(to) : [];
    this.deps.placement.moved(to);
    for (const { flow } of to) this.deps.appliance.forget(flow);
    let next = 0;
    for (const [i, result] of batch.results.entries()) {
      const took = result.result === "ok" && heir && !entries[i]?.isRelated ? released[next++] : undefined;
      this.settled(server, batch.takeoverId, result, entries[i]?.bundleId ?? "", took);
    }
    this.check();
  }

  private settled(
    server: string,
    takeoverId: string,
    result: TakeoverResult,
    bundle: string,
    released: Released | undefined,
  ): void {
    const ours = this.episodes.get(takeoverId);
    ours?.unsettled.delete(result.connectionId);
    const fenced = ours?.fencedAt ?? 0;
    const begun = ours ? Math.max(0, ours.since() - Math.max(0, ...Object.values(result.phasesUs))) : 0;
    const phases: Record<string, number> = { suspected: 0, fenced };
    for (const [phase, us] of Object.entries(result.phasesUs)) phases[phase] = begun + us;
    if (released) phases.released = ours?.since() ?? 0;
    this.deps.events.append({
      kind: "takeover",
      connection: result.connectionId,
      bundle,
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
    const now = performance.now();
    for (const { bytes, revision } of this.unplaced.splice(0)) this.seen(bytes, revision);
    this.releaseWaiting(now);
    this.findForgotten();
    this.yieldSlots(now);
    this.reannounce();
    for (const episode of this.episodes.values()) {
      const owned = this.deps.index.count(episode.dead.id, episode.incarnation);
      const { takeover } = episode;
      if (!takeover || this.rests(episode) || !episode.isSettled(owned, now)) continue;
      if (this.deps.strays.waiting(episode)) continue;
      this.run(episode, "closing", () => this.bury(episode, takeover));
    }
  }

  private async bury(episode: Episode, takeover: Takeover): Promise<void> {
    const { dead, incarnation, holds } = episode;
    episode.closing = true;
    // Connections that still wait for their client are at their heirs already: the tables name those before the slot goes.
    const waiting = [...episode.unsettled].flatMap((id) => {
      const entry = this.deps.index.get(id);
      if (!entry || entry.isRelated || !this.canRelease(entry.serverId, entry.incarnation)) return [];
      const member = this.deps.memberOf(entry.serverId);
      return member ? [{ flow: entry.flow(), member }] : [];
    });
    await this.deps.appliance.assign(waiting);
    this.deps.placement.moved(waiting);
    this.place();
    if (holds) this.deps.appliance.setServer(dead, "down");
    await this.write(episode, { ...takeover, finished: true });
    const { revision } = episode;
    this.finished.set(episode.id, { server: dead.id, incarnation, revision, at: performance.now() });
    this.episodes.delete(episode.id);
    this.deps.events.append({
      kind: "server",
      from: dead.id,
      result: "ok",
      reason: `all connections taken over: ${episode.reason}`,
      phases: { suspected: 0, fenced: episode.fencedAt ?? 0, finished: episode.since() },
    });
    log.info({ server: dead.id, incarnation, us: episode.since() }, "taken over: the slot is closed");
    this.deps.freed(dead.id, holds, "its connections were taken over");
  }

  private heldMembers(): Member[] {
    return [...this.episodes.values()].filter(({ holds, closing }) => holds && !closing).map(({ dead }) => dead);
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
