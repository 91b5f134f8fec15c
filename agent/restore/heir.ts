import { flowHash, MAGLEV_SIZE, maglevTable } from "../../bpf/maglev.js";
import { parseConnectionId } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import { decodeRecord, decodeTakeover, ownerOfRecord, type Takeover } from "../../proto/record.js";
import type { LiveConnection } from "../connection/connection.js";
import type { ConnectionTable } from "../connection/table.js";
import type { Transit } from "../connection/transit.js";
import { type Answer, compareAnswer, expectationOf } from "./compare.js";
import { Pursuit, type Quarry } from "./pursuit.js";
import type { AnswerDesk } from "./reattachment.js";
import { removeRecord } from "./removal.js";
import { Resumption, type ResumptionResult } from "./resumption.js";

const log = logger("heir");
/** Late data of a dead server comes in one burst: more than this is somebody else's doing. */
const REBUILDS_MAX = 3;

/** What is reported without an announced takeover: of a connection that was ours already. */
const NO_TAKEOVER = "";

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
  private readonly pursuit = new Pursuit();
  /** Whether this process takes over what falls to its server. */
  private takes = false;
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
    this.takes = true;
    for (const owner of this.open.keys()) this.considerAll(owner);
  }

  /** Another process of this server takes over from now on. What was begun is brought to its end. */
  cease(): void {
    this.takes = false;
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
    if (this.pursuit.has(id)) return;
    this.pursue(this.ownQuarry(id, { revision, bytes }));
  }

  /**
   * A connection of ours has to be rebuilt at another position: from its record, as if it were another's. `late` came unasked,
   * so it must fit as an answer would, and only so many times: it begins a probe, and the answer to that decides.
   */
  resumeAgain(connection: LiveConnection, late: Answer): void {
    const { id } = connection;
    const known = this.own.get(id);
    const before = this.rebuilds.get(connection) ?? 0;
    if (!known || this.pursuit.has(id) || before >= REBUILDS_MAX) return;
    const expected = expectationOf(decodeRecord(known.bytes), false);
    const verdict = compareAnswer(expected, late, { count: 0, tsval: connection.tcpState().timestampClock });
    if (verdict.kind === "ignore") {
      this.desk.ignore(verdict.reason);
      return;
    }
    log.info({ connection: id }, "rebuilt once more: the client has late data of the former owner");
    connection.lost("late data of the former owner");
    this.table.host.guard.remove(connection.flow);
    const quarry = this.ownQuarry(id, known);
    this.pursue({
      ...quarry,
      done: (result) => {
        const rebuilt = this.table.get(id);
        if (rebuilt) this.rebuilds.set(rebuilt, before + 1);
        quarry.done(result);
      },
    });
  }

  /** Was ours before: that it goes on is no news, but its end is. */
  private ownQuarry(id: string, known: Known): Quarry {
    return {
      id,
      from: this.table.host.serverId,
      make: () => this.resumption(known),
      isWanted: () => this.isOurs(id),
      done: (result) => {
        if (result?.result === "refused" || result?.result === "failed") this.report(NO_TAKEOVER, result);
      },
    };
  }

  private resumption({ bytes, revision }: Known): Resumption {
    return new Resumption(this.table, this.desk, decodeRecord(bytes), revision, { nonce: false, claimed: false });
  }

  /** Takes one over until it has ended one way or the other. */
  pursue(quarry: Quarry): void {
    const ended = this.transit.begin();
    this.pursuit.begin({
      ...quarry,
      done: (result) => {
        quarry.done(result);
        ended();
      },
    });
  }

  /** The store is back: what has failed without it is tried again now. */
  storeConnected(): void {
    this.pursuit.hurry();
  }

  /** How often a takeover was tried once more. */
  get retried(): number {
    return this.pursuit.retried;
  }

  /** Records that name this worker and have no connection, seen twice in a row: their removal was lost with the store, and their pieces' with it. */
  removeLeftovers(): void {
    const suspects = new Set<string>();
    for (const [id, { revision }] of this.own) {
      if (this.table.get(id) || this.pursuit.has(id)) continue;
      suspects.add(id);
      if (!this.leftovers.has(id)) continue;
      removeRecord(this.table.host, id, revision).catch((error) => log.warn({ err: error, id }, "a leftover stays"));
    }
    this.leftovers = suspects;
  }

  private leftovers = new Set<string>();

  private get own(): Map<string, Known> {
    const { serverId, incarnation } = this.table.host;
    return this.byOwner.get(ownerKey(serverId, incarnation)) ?? new Map();
  }

  private isOurs(id: string): boolean {
    return this.own.has(id);
  }

  private consider(open: Open, id: string, known: Known): void {
    if (!this.takes || this.pursuit.has(id) || !this.inherits(open, id)) return;
    const { id: takeoverId, serverId, incarnation } = open.takeover;
    this.pursue({
      id,
      from: serverId,
      make: () => this.resumption(known),
      // A claim that the store did not answer may have succeeded: then it is ours.
      isWanted: () => this.open.has(ownerKey(serverId, incarnation)) || this.isOurs(id),
      done: (result) => {
        if (result) this.report(takeoverId, result);
      },
    });
  }

  private inherits({ takeover: { survivors }, heirs }: Open, id: string): boolean {
    try {
      const heir = survivors[heirs[flowHash(parseConnectionId(id).flow) % MAGLEV_SIZE] ?? 0];
      return heir === this.table.host.serverId;
    } catch (error) {
      log.error({ id, err: error }, "a record under a name that is no connection's is left alone");
      return false;
    }
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
