import { flowHash, MAGLEV_SIZE, maglevTable } from "../../bpf/maglev.js";
import { parseConnectionId } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import { decodeRecord, decodeTakeover, ownerOfRecord, type Takeover } from "../../proto/record.js";
import type { LiveConnection } from "../connection/connection.js";
import type { ConnectionTable } from "../connection/table.js";
import type { Transit } from "../connection/transit.js";
import { type Answer, compareAnswer, expectationOf } from "./compare.js";
import type { AnswerDesk } from "./reattachment.js";
import { Resumption, type ResumptionResult } from "./resumption.js";

const log = logger("heir");
/** Resumptions at once that are claiming and preparing; the rest waits in order. Those that wait for their client do not count. */
const PARALLEL_MAX = 128;
const BEGUN_A_TURN = 32;
/** Late data of a dead server comes in one burst: more than this is somebody else's doing. */
const REBUILDS_MAX = 3;

export interface Known {
  revision: number;
  bytes: Uint8Array;
}

interface Open {
  takeover: Takeover;
  heirs: Uint16Array;
}

/**
 * This server's view of everybody's records, and its share of a dead server's. The bucket's one order makes it sound: whoever
 * sees a takeover has seen every record that was committed before it, and a record of the dead that comes later is found here too.
 */
export class Heir {
  private readonly byOwner = new Map<string, Map<string, Known>>();
  private readonly ownerOf = new Map<string, string>();
  private readonly open = new Map<string, Open>();
  private readonly started = new Set<string>();
  private readonly queue: Array<() => Promise<void>> = [];
  private running = 0;
  private turn: NodeJS.Immediate | undefined;
  private inherits = false;
  /** How often a connection was rebuilt for late data. */
  private readonly rebuilds = new WeakMap<LiveConnection, number>();

  constructor(
    private readonly table: ConnectionTable,
    private readonly desk: AnswerDesk,
    private readonly report: (takeoverId: string, result: ResumptionResult) => void,
    private readonly transit: Transit,
  ) {}

  /** From now on this process takes over what falls to its server: also of takeovers that were seen already. */
  begin(): void {
    this.inherits = true;
    for (const owner of this.open.keys()) this.considerAll(owner);
  }

  /** Another process of this server takes over from now on. What was begun is brought to its end. */
  cease(): void {
    this.inherits = false;
  }

  record(id: string, revision: number, bytes: Uint8Array): void {
    const { serverId, incarnation } = ownerOfRecord(bytes);
    const owner = ownerKey(serverId, incarnation);
    this.forget(id);
    this.ownerOf.set(id, owner);
    const records = this.byOwner.get(owner) ?? new Map<string, Known>();
    this.byOwner.set(owner, records.set(id, { revision, bytes }));
    const open = this.open.get(owner);
    if (open) this.consider(open, id, { revision, bytes });
  }

  removed(id: string): void {
    this.forget(id);
  }

  takeover(bytes: Uint8Array): void {
    const takeover = decodeTakeover(bytes);
    const owner = ownerKey(takeover.serverId, takeover.incarnation);
    if (takeover.finished) {
      this.open.delete(owner);
      return;
    }
    const open = { takeover, heirs: maglevTable(takeover.survivors) };
    this.open.set(owner, open);
    const records = this.byOwner.get(owner)?.size ?? 0;
    log.info({ takeover: takeover.id, records, survivors: takeover.survivors }, "takeover seen");
    this.considerAll(owner);
  }

  private considerAll(owner: string): void {
    const open = this.open.get(owner);
    const records = this.byOwner.get(owner);
    if (open && records) for (const [id, known] of [...records]) this.consider(open, id, known);
  }

  /** The record as the store has it, whoever's it is. */
  lookup(id: string): Known | undefined {
    const owner = this.ownerOf.get(id);
    return owner === undefined ? undefined : this.byOwner.get(owner)?.get(id);
  }

  /** A record of ours that has lost its connection on the way here: it is taken over like a dead server's. */
  resumeOwn(id: string, revision: number, bytes: Uint8Array): void {
    if (this.started.has(id)) return;
    this.started.add(id);
    const options = { nonce: false, claimed: false };
    this.enqueue(
      () => new Resumption(this.table, this.desk, decodeRecord(bytes), revision, options),
      () => this.started.delete(id),
    );
  }

  /**
   * A connection of ours has to be rebuilt at another position: from its record, as if it were another's. `late` came unasked,
   * so it must fit as an answer would, and only so many times: it begins a probe, and the answer to that decides.
   */
  resumeAgain(connection: LiveConnection, late: Answer): void {
    const known = this.own.get(connection.id);
    const before = this.rebuilds.get(connection) ?? 0;
    if (!known || this.started.has(connection.id) || before >= REBUILDS_MAX) return;
    const expected = expectationOf(decodeRecord(known.bytes), false);
    const verdict = compareAnswer(expected, late, { count: 0, tsval: connection.tcpState().timestampClock });
    if (verdict.kind === "ignore") return;
    log.info({ connection: connection.id }, "rebuilt once more: the client has late data of the former owner");
    connection.lost("late data of the former owner");
    this.table.host.guard.remove(connection.flow);
    const record = decodeRecord(known.bytes);
    this.started.add(connection.id);
    const resumption = new Resumption(this.table, this.desk, record, known.revision, { nonce: false, claimed: false });
    this.enqueue(
      () => resumption,
      () => {
        this.started.delete(connection.id);
        const rebuilt = this.table.get(connection.id);
        if (rebuilt) this.rebuilds.set(rebuilt, before + 1);
      },
    );
  }

  /** Records that name this worker and have no connection, seen twice in a row: their removal was lost with the store. */
  removeLeftovers(): void {
    const suspects = new Set<string>();
    for (const [id, { revision }] of this.own) {
      if (this.table.get(id) || this.started.has(id)) continue;
      suspects.add(id);
      if (!this.leftovers.has(id)) continue;
      this.table.host.bucket.remove(id, revision).catch((error) => log.warn({ err: error, id }, "a leftover stays"));
    }
    this.leftovers = suspects;
  }

  private leftovers = new Set<string>();

  private get own(): Map<string, Known> {
    const { serverId, incarnation } = this.table.host;
    return this.byOwner.get(ownerKey(serverId, incarnation)) ?? new Map();
  }

  get known(): number {
    return this.ownerOf.size;
  }

  private consider(open: Open, id: string, known: Known): void {
    if (!this.inherits) return;
    const { survivors, id: takeoverId } = open.takeover;
    const heir = survivors[open.heirs[flowHash(parseConnectionId(id).flow) % MAGLEV_SIZE] ?? 0];
    if (heir !== this.table.host.serverId || this.started.has(id)) return;
    this.started.add(id);
    const begin = () =>
      new Resumption(this.table, this.desk, decodeRecord(known.bytes), known.revision, {
        nonce: false,
        claimed: false,
      });
    this.enqueue(begin, (result) => {
      this.started.delete(id);
      if (result) this.report(takeoverId, result);
    });
  }

  /** Makes it and begins as soon as there is a place. */
  enqueue(make: () => Resumption, done: (result: ResumptionResult | undefined) => void): void {
    const ended = this.transit.begin();
    this.queue.push(
      () =>
        new Promise<void>((release) => {
          void make()
            .run(release)
            .then((result) => {
              release();
              done(result);
              ended();
            });
        }),
    );
    this.next();
  }

  /** A few a turn of the loop: heartbeats, answers and other connections' packets get their turn in between. */
  private next(): void {
    this.turn ??= setImmediate(() => {
      this.turn = undefined;
      for (let begun = 0; begun < BEGUN_A_TURN && this.running < PARALLEL_MAX; begun++) {
        const job = this.queue.shift();
        if (!job) return;
        this.running++;
        void job().finally(() => {
          this.running--;
          if (this.queue.length > 0) this.next();
        });
      }
      if (this.queue.length > 0 && this.running < PARALLEL_MAX) this.next();
    });
  }

  private forget(id: string): void {
    const owner = this.ownerOf.get(id);
    if (owner === undefined) return;
    this.ownerOf.delete(id);
    const records = this.byOwner.get(owner);
    records?.delete(id);
    if (records?.size === 0) this.byOwner.delete(owner);
  }
}

function ownerKey(server: string, incarnation: number): string {
  return `${server}/${incarnation}`;
}
