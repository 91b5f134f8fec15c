import { Budget } from "./budget.js";
import type { Candidate } from "./candidates.js";
import { Hysteresis } from "./hysteresis.js";
import { type HostLoad, indexOf, type LoadIndex, metricPhrase, othersOf, type Thresholds } from "./load.js";
import { Rest } from "./rest.js";
import { type Measured, Round } from "./round.js";
import { SmoothedLoad } from "./smoothing.js";

/** A target stays this much below the source, or the two would soon change roles. */
const CLEARLY_BELOW = 0.75;
const ROUND_MS = 10_000;
/** What a round did shows in the smoothed loads after so long. */
const SETTLES_MS = 2_500;
/** avg10 follows what happened with so much delay. */
const PRESSURE_SETTLES_MS = 10_000;
/** Egress below this says nothing about what a byte costs. */
const COST_EGRESS_MIN = 100_000;
/** Connections that fit nowhere, after which a round looks no further. */
const MISFITS_MAX = 64;

export interface OverloadSettings {
  thresholds: Thresholds;
  lowMark: number;
  sustainedMs: number;
  movesPerSecond: number;
  restMs: number;
}

export interface ServerView {
  id: string;
  /** It may give connections: UP, and not being emptied. */
  gives: boolean;
  /** It may get connections. */
  takes: boolean;
  /** undefined: nothing recent is known. */
  load: HostLoad | undefined;
}

export interface Move {
  connection: string;
  from: string;
  to: string;
  /** "overload of s1: cpu 1.93 of 2 cores, above 1.60" */
  why: string;
}

/** Why an overloaded server keeps what it has; also a metric's label. */
export type Stop =
  | "takeover"
  | "received"
  | "waits its turn"
  | "no server takes"
  | "no room"
  | "nothing busy"
  | "resting"
  | "not movable";

export interface Standing {
  index: number;
  overloaded: boolean;
  /** For an operator; "" where it is not overloaded. */
  sentence: string;
  stop: Stop | undefined;
}

interface Server {
  view: ServerView;
  smoothed: SmoothedLoad;
  hysteresis: Hysteresis;
  measured: Measured;
  index: LoadIndex;
  /** Since it is overloaded. */
  moved: number;
  stop: { code: Stop; phrase: string } | undefined;
}

/**
 * Decides which connections leave overloaded servers. Pure: clock, loads and connections are handed in.
 *
 *   observe ─► overloaded? (hysteresis) ─► giver ─► decide: a round of moves, within the budget ─► settle ─► next round
 *
 * One server gives at a time. What has moved rests, what was given to rests from giving, and what is overloaded takes nothing:
 * so nothing goes back and forth, whatever the loads do.
 */
export class OverloadPolicy {
  private readonly servers = new Map<string, Server>();
  private readonly budget: Budget;
  private readonly rest: Rest;
  private round: Round | undefined;
  private settledAt = 0;

  /** @param dryRun for whoever carries it out, and for the words */
  constructor(
    private readonly settings: OverloadSettings,
    readonly dryRun = false,
  ) {
    this.budget = new Budget(settings.movesPerSecond);
    this.rest = new Rest(settings.restMs);
  }

  /** All servers as they are at this moment. One that is not there, or whose load is not known, is forgotten. */
  observe(atMs: number, views: ServerView[]): void {
    const known = views.flatMap((view) => (view.load ? [{ view, load: view.load }] : []));
    const ids = new Set(known.map(({ view }) => view.id));
    for (const id of this.servers.keys()) if (!ids.has(id)) this.servers.delete(id);
    for (const { view, load } of known) {
      const server = this.servers.get(view.id);
      if (!server) {
        this.servers.set(view.id, this.newcomer(atMs, view, load));
        continue;
      }
      server.smoothed.add(atMs, load);
      server.view = view;
    }
    for (const server of this.servers.values()) this.measure(atMs, server);
  }

  private newcomer(atMs: number, view: ServerView, load: HostLoad): Server {
    const { lowMark, sustainedMs } = this.settings;
    return {
      view,
      smoothed: new SmoothedLoad(atMs, load),
      hysteresis: new Hysteresis(lowMark, sustainedMs),
      measured: { load, others: othersOf([]) },
      index: { value: 0, metric: "cpu" },
      moved: 0,
      stop: undefined,
    };
  }

  private measure(atMs: number, server: Server): void {
    const { load } = server.smoothed;
    const rest = [...this.servers.values()].filter((other) => other !== server);
    const others = othersOf(rest.map(({ smoothed }) => smoothed.load));
    server.measured = { load, others };
    server.index = indexOf(load, others, this.settings.thresholds);
    server.hysteresis.observe(atMs, server.index.value);
    server.stop = undefined;
    if (!server.hysteresis.on) server.moved = 0;
  }

  /** Servers whose connections are worth a look: they are, or may soon be, overloaded. */
  pressed(): string[] {
    return [...this.servers.values()]
      .filter(({ hysteresis, index, view }) => view.gives && (hysteresis.on || index.value >= 1))
      .map(({ view }) => view.id);
  }

  /**
   * Who may give connections now; undefined: nobody.
   * @param blocked why nothing at all may be moved; "" = nothing stands against it.
   */
  giver(atMs: number, blocked: string): string | undefined {
    const overloaded = [...this.servers.values()]
      .filter(({ hysteresis, view }) => hysteresis.on && view.gives)
      .sort((a, b) => b.index.value - a.index.value);
    if (blocked !== "") {
      for (const server of overloaded) server.stop = { code: "takeover", phrase: blocked };
      this.endRound(atMs);
      return undefined;
    }
    const able = overloaded.filter((server) => {
      const rests = this.rest.receiverRests(atMs, server.view.id);
      if (rests) server.stop = { code: "received", phrase: "it has just been given connections itself" };
      return !rests;
    });
    if (this.round && !able.some(({ view }) => view.id === this.round?.source)) this.endRound(atMs);
    if (this.round && atMs - this.round.startedAt > ROUND_MS) this.endRound(atMs);
    const first = able.find(({ view }) => view.id === this.round?.source) ?? able[0];
    for (const server of able) {
      if (server !== first) server.stop = { code: "waits its turn", phrase: `${first?.view.id} is relieved first` };
    }
    return atMs < this.settledAt ? undefined : first?.view.id;
  }

  /**
   * The moves that begin now.
   * @param source as `giver` said.
   * @param candidates all its connections.
   * @param atMost as many can be under way.
   */
  decide(atMs: number, source: string, candidates: Candidate[], atMost: number): Move[] {
    const server = this.servers.get(source);
    if (!server?.hysteresis.on) return [];
    const total = candidates.reduce((sum, { rate }) => sum + rate, 0);
    this.round ??= new Round(source, atMs, server.measured, total, this.settings.thresholds, this.costOfByte());
    const { round } = this;
    const why = `overload of ${source}: ${this.phrase(server)}`;
    const fitting = this.order(atMs, server, round, candidates);
    const moves: Move[] = [];
    let misfits = 0;
    let more = false;
    for (const candidate of fitting) {
      if (round.projected() < this.settings.lowMark || misfits > MISFITS_MAX) break;
      const to = this.target(server, round, candidate);
      if (to === undefined) {
        misfits++;
        continue;
      }
      more = moves.length >= atMost || !this.budget.take(atMs);
      if (more) break;
      round.move(to, candidate);
      this.rest.moved(atMs, candidate.id, to);
      moves.push({ connection: candidate.id, from: source, to, why });
    }
    if (moves.length === 0 && !more && misfits > 0) server.stop = this.noTarget(server);
    if (!more) this.endRound(atMs);
    return moves;
  }

  /** One of the server's moves has ended well. */
  moved(server: string): void {
    const known = this.servers.get(server);
    if (known) known.moved++;
  }

  standing(atMs: number, id: string): Standing {
    const server = this.servers.get(id);
    if (!server) return { index: 0, overloaded: false, sentence: "", stop: undefined };
    const { hysteresis, index, moved, stop } = server;
    const overloaded = hysteresis.on;
    if (!overloaded) return { index: index.value, overloaded, sentence: "", stop: undefined };
    const seconds = Math.round((atMs - (hysteresis.since ?? atMs)) / 1000);
    const verb = this.dryRun ? "would have been moved" : "moved";
    const parts = [`overloaded: ${this.phrase(server)}, for ${seconds} s`];
    if (moved > 0) parts.push(`${moved} ${moved === 1 ? "connection" : "connections"} ${verb} away`);
    if (stop) parts.push(`nothing ${moved > 0 ? "more " : ""}is moved: ${stop.phrase}`);
    return { index: index.value, overloaded, sentence: parts.join("; "), stop: stop?.code };
  }

  /** Those that may be moved, the most useful first. Says so where there is none. */
  private order(atMs: number, server: Server, round: Round, candidates: Candidate[]): Candidate[] {
    const useful = candidates.filter(({ rate }) => round.byCount || rate > 0);
    const movable = useful.filter(({ movable }) => movable);
    const rested = movable.filter(({ id }) => !this.rest.connectionRests(atMs, id));
    if (rested.length === 0 && round.count === 0) {
      if (movable.length > 0) server.stop = { code: "resting", phrase: "its connections have only just been moved" };
      else if (useful.length > 0) server.stop = { code: "not movable", phrase: "none of its connections is protected" };
      else if (candidates.length > 0) server.stop = { code: "nothing busy", phrase: "none of its connections is busy" };
      else server.stop = { code: "nothing busy", phrase: "it has no connections" };
    }
    // Where their number is too much the idle ones go first: they are cheapest to move.
    return rested.sort((a, b) => (round.byCount ? a.rate - b.rate : b.rate - a.rate));
  }

  /** Where a connection is to go: to whoever has least to do with it, if that is little enough. */
  private target(source: Server, round: Round, candidate: Candidate): string | undefined {
    const before = round.projected();
    let best: { id: string; index: number } | undefined;
    for (const server of this.takers(source)) {
      const index = round.projectedAt(server.view.id, server.measured, candidate);
      if (index < this.settings.lowMark && index <= before * CLEARLY_BELOW && index < (best?.index ?? Infinity)) {
        best = { id: server.view.id, index };
      }
    }
    return best?.id;
  }

  private takers(source: Server): Server[] {
    return [...this.servers.values()].filter(
      (server) => server !== source && server.view.takes && !server.hysteresis.on && server.index.value < 1,
    );
  }

  private noTarget(source: Server): Server["stop"] {
    const others = [...this.servers.values()].some((server) => server !== source && server.view.takes);
    if (!others) return { code: "no server takes", phrase: "no other server takes connections" };
    return { code: "no room", phrase: "no server has room" };
  }

  /** Cores a byte a second: where it costs least, for on the others something else is done as well. */
  private costOfByte(): number {
    const costs = [...this.servers.values()].flatMap(({ smoothed: { usage } }) =>
      usage.egress >= COST_EGRESS_MIN ? [usage.serving / usage.egress] : [],
    );
    return costs.length > 0 ? Math.min(...costs) : 0;
  }

  /** The next round begins when this one can be seen in the loads. */
  private endRound(atMs: number): void {
    if (this.round && this.round.count > 0) {
      const byPressure = this.servers.get(this.round.source)?.index.metric === "pressure";
      this.settledAt = atMs + (byPressure ? PRESSURE_SETTLES_MS : SETTLES_MS);
    }
    this.round = undefined;
  }

  private phrase({ index, measured: { load, others } }: Server): string {
    const { thresholds, lowMark, sustainedMs } = this.settings;
    if (index.value >= 1) return metricPhrase(index.metric, load, others, thresholds, "above");
    const low = metricPhrase(index.metric, load, others, thresholds, "not below", lowMark);
    return `${low} for ${sustainedMs / 1000} s yet`;
  }
}
