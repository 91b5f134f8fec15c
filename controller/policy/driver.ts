import { BatonError } from "../../proto/errors.js";
import { logger } from "../../proto/log.js";
import type { EventMessage, LiveConnection } from "../../proto/rpc/index.js";
import type { NewEvent } from "../events/index.js";
import { type Candidate, Rates } from "./candidates.js";
import type { Move, OverloadPolicy, ServerView, Standing, Stop } from "./overload.js";

const log = logger("policy");
/** As often as agents report their load. */
const TICK_MS = 500;
/** Between two looks at a server's connections: an answer names all of them. */
const LOOK_MS = 1_000;
/** The same where nothing could be moved last time. */
const LOOK_AGAIN_MS = 5_000;
/** Moves under way. */
const PARALLEL = 16;

export interface OverloadDeps {
  servers(): ServerView[];
  /** Why nothing may be moved now; "" = nothing stands against it. */
  blocked(): string;
  describe(server: string): Promise<LiveConnection[]>;
  /** As Migrations.move. */
  move(connection: string, to: string, why: string): Promise<Pick<EventMessage, "result">>;
  event(event: NewEvent): void;
}

/** Counters for the metrics. */
export interface OverloadCounts {
  /** By server and result. */
  moves: Map<string, Map<string, number>>;
  /** Half seconds in which an overloaded server kept what it has, by server and reason. */
  stops: Map<string, Map<string, number>>;
}

/** Lets the policy decide every half second and carries out what it says. */
export class OverloadDriver {
  readonly counts: OverloadCounts = { moves: new Map(), stops: new Map() };
  private readonly rates = new Map<string, { rates: Rates; atMs: number; candidates: Candidate[] }>();
  private readonly overloaded = new Set<string>();
  /** Servers that kept what they have at the last decision. */
  private readonly stopped = new Set<string>();
  private timer: NodeJS.Timeout | undefined;
  private underWay = 0;
  private ticking = false;

  constructor(
    private policy: OverloadPolicy,
    private readonly deps: OverloadDeps,
  ) {}

  /** Decides by this policy from now on. What is under way ends as it began. */
  use(policy: OverloadPolicy): void {
    this.policy = policy;
    this.rates.clear();
  }

  start(): void {
    this.close();
    this.timer = setInterval(() => {
      if (this.ticking) return; // an agent is slow to describe what it has
      this.ticking = true;
      this.tick().then(
        () => {
          this.ticking = false;
        },
        (error) => {
          this.ticking = false;
          log.error({ err: error }, "a decision about overload failed");
        },
      );
    }, TICK_MS);
  }

  close(): void {
    clearInterval(this.timer);
  }

  standing(server: string): Standing {
    return this.policy.standing(performance.now(), server);
  }

  private async tick(): Promise<void> {
    const { policy } = this;
    policy.observe(performance.now(), this.deps.servers());
    // An agent that names all its connections works for it: not while something more important goes on.
    if (this.deps.blocked() === "") await Promise.all(this.due().map((server) => this.look(server)));
    const now = performance.now();
    const source = policy.giver(now, this.deps.blocked());
    const known = source === undefined ? undefined : this.rates.get(source);
    if (source !== undefined && known) {
      for (const move of policy.decide(now, source, known.candidates, PARALLEL - this.underWay))
        void this.carryOut(move);
    }
    this.say(now);
  }

  /** Pressed servers that were not looked at for a while. */
  private due(): string[] {
    const pressed = this.policy.pressed();
    for (const server of this.rates.keys()) if (!pressed.includes(server)) this.rates.delete(server);
    return pressed.filter((server) => {
      const atMs = this.rates.get(server)?.atMs;
      return atMs === undefined || performance.now() - atMs >= (this.stopped.has(server) ? LOOK_AGAIN_MS : LOOK_MS);
    });
  }

  private async look(server: string): Promise<void> {
    const connections = await this.deps.describe(server);
    const rates = this.rates.get(server)?.rates ?? new Rates();
    const atMs = performance.now();
    this.rates.set(server, { rates, atMs, candidates: rates.look(atMs, connections) });
  }

  private async carryOut({ connection, from, to, why }: Move): Promise<void> {
    const known = this.rates.get(from);
    if (known) known.candidates = known.candidates.filter(({ id }) => id !== connection);
    if (this.policy.dryRun) {
      log.info({ connection, from, to, why }, "would move a connection");
      this.deps.event({
        kind: "server",
        connection,
        from,
        to,
        result: "ok",
        reason: `would move a connection: ${why}`,
      });
      this.ended(from, "dry run");
      return;
    }
    this.underWay++;
    try {
      const { result } = await this.deps.move(connection, to, why);
      this.ended(from, result);
    } catch (error) {
      if (!(error instanceof BatonError)) throw error;
      log.info({ connection, from, to, reason: error.message }, "a move was not begun");
      this.ended(from, "not begun"); // it has just ended, or a server's state has changed
    } finally {
      this.underWay--;
    }
  }

  private ended(from: string, result: string): void {
    count(this.counts.moves, from, result);
    if (result === "ok" || result === "dry run") this.policy.moved(from);
  }

  /** Who has become overloaded, or ceased to be; and why nothing is moved. */
  private say(now: number): void {
    for (const { id } of this.deps.servers()) {
      const { overloaded, sentence, stop } = this.policy.standing(now, id);
      if (stop) count(this.counts.stops, id, stop);
      if (stop) this.stopped.add(id);
      else this.stopped.delete(id);
      if (overloaded === this.overloaded.has(id)) continue;
      if (overloaded) this.overloaded.add(id);
      else this.overloaded.delete(id);
      const reason = overloaded ? sentence : "no longer overloaded";
      log.warn({ server: id, reason }, "overload");
      this.deps.event({ kind: "server", from: id, result: "ok", reason });
    }
  }
}

function count(counts: Map<string, Map<string, number>>, server: string, what: string | Stop): void {
  const of = counts.get(server) ?? new Map<string, number>();
  of.set(what, (of.get(what) ?? 0) + 1);
  counts.set(server, of);
}
