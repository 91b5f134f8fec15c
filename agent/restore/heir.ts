import { flowHash, MAGLEV_SIZE, maglevTable } from "../../bpf/maglev.js";
import { parseConnectionId } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import { decodeRecord, decodeTakeover, isRelated, ownerOfRecord, type Takeover } from "../../proto/record.js";
import type { LiveConnection } from "../connection/connection.js";
import type { ConnectionTable } from "../connection/table.js";
import type { Transit } from "../connection/transit.js";
import type { Attempt, ResumptionResult } from "./attempt.js";
import { BundleResumption } from "./bundle_resumption.js";
import { type Answer, compareAnswer, expectationOf } from "./compare.js";
import { type Known, KnownRecords, ownerKey } from "./known_records.js";
import { Pursuit, type Quarry } from "./pursuit.js";
import type { AnswerDesk } from "./reattachment.js";
import { removeRecord } from "./removal.js";
import { Resumption, type ResumptionOptions } from "./resumption.js";

const log = logger("heir");
/** Late data of a dead server comes in one burst: more than this is somebody else's doing. */
const REBUILDS_MAX = 3;

/** A bundle's control connection ends last: one without it had been reset, or was about to be. */
const CONTROL_GONE = "its control connection is gone";

/** What is reported without an announced takeover: of a connection that was ours already. */
const NO_TAKEOVER = "";

interface Open {
  takeover: Takeover;
  heirs: Uint16Array;
}

/**
 * This server's view of everybody's records, and its share of a dead server's. The bucket's one order makes it sound: whoever
 * sees a takeover has seen every record that was committed before it, and a record of the dead that comes later is found here too.
 */
export class Heir {
  private readonly records = new KnownRecords();
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
    const { owner, known } = this.records.put(id, revision, bytes);
    const open = this.open.get(owner);
    if (open) this.consider(open, known);
    else if (isRelated(known)) this.considerLate(known);
  }

  removed(id: string): void {
    this.records.remove(id);
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
    const records = this.records.of(owner).size;
    log.info({ takeover: takeover.id, records, survivors: takeover.survivors }, "takeover seen");
    this.considerAll(owner);
  }

  private considerAll(owner: string): void {
    const open = this.open.get(owner);
    if (open) for (const known of [...this.records.of(owner).values()]) this.consider(open, known);
  }

  /** The record as the store has it, whoever's it is. */
  lookup(id: string): Known | undefined {
    return this.records.get(id);
  }

  /** The records of a bundle that has this control connection, but for that one's. */
  relatedTo(id: string): Known[] {
    return this.records.relatedTo(id);
  }

  /** A record of ours that has lost its connection on the way here, and its bundle with it: as if a dead server had had it. */
  resumeOwn(id: string, revision: number, bytes: Uint8Array): void {
    if (this.pursuit.has(id)) return;
    const known = { id, revision, bytes, bundleId: ownerOfRecord(bytes).bundleId };
    this.pursue(this.ownQuarry(known, () => this.attempt(known, NO_TAKEOVER, this.table.host.serverId)));
  }

  /**
   * A connection of ours has to be rebuilt at another position: from its record, as if it were another's. `late` came unasked,
   * so it must fit as an answer would, and only so many times: it begins a probe, and the answer to that decides.
   */
  resumeAgain(connection: LiveConnection, late: Answer): void {
    const { id } = connection;
    const known = this.ours(id);
    const before = this.rebuilds.get(connection) ?? 0;
    if (!known || this.pursuit.has(id) || before >= REBUILDS_MAX) return;
    const expected = expectationOf(decodeRecord(known.bytes), false);
    const verdict = compareAnswer(expected, late, { count: 0, tsval: connection.tcpState().timestampClock });
    if (verdict.kind === "ignore") {
      this.desk.ignore(verdict.reason);
      return;
    }
    log.info({ connection: id }, "rebuilt once more: the client has late data of the former owner");
    connection.lost("late data of the former owner", true);
    this.table.host.guard.remove(connection.flow);
    const quarry = this.ownQuarry(known, () => this.resumption(known, { related: isRelated(known) }));
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
  private ownQuarry({ id }: Known, make: () => Attempt): Quarry {
    return {
      id,
      from: this.table.host.serverId,
      make,
      isWanted: () => this.ours(id) !== undefined,
      done: (result) => {
        if (result?.result === "refused" || result?.result === "failed") this.report(NO_TAKEOVER, result);
      },
    };
  }

  private resumption({ bytes, revision }: Known, options: Partial<ResumptionOptions>): Resumption {
    return new Resumption(this.table, this.desk, decodeRecord(bytes), revision, {
      nonce: false,
      claimed: false,
      ...options,
    });
  }

  /** A connection by itself, or a whole bundle. */
  private attempt(known: Known, takeoverId: string, from: string): Attempt {
    const { id, bundleId } = known;
    if (isRelated(known)) return this.resumption(known, { related: true, refusal: CONTROL_GONE });
    const control = this.resumption(known, {});
    if (bundleId === "") return control;
    // Asked with every try: their records may have come, gone, or been written here since.
    const relatedOf = async (revision: number) => {
      await this.records.upTo(revision);
      const left = this.records
        .relatedTo(id)
        .filter((one) => !this.table.get(one.id) && (this.withBundle.get(one.id) === id || !this.isTaken(one.id)));
      for (const one of left) this.withBundle.set(one.id, id);
      return left.map((one) => this.resumption(one, { related: true, from }));
    };
    return new BundleResumption(control, relatedOf, (result) => this.report(takeoverId, result));
  }

  /** Takes one over until it has ended one way or the other. */
  pursue(quarry: Quarry): void {
    const ended = this.transit.begin();
    this.pursuit.begin({
      ...quarry,
      done: (result) => {
        for (const [id, bundle] of this.withBundle) if (bundle === quarry.id) this.withBundle.delete(id);
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
      if (this.isTaken(id)) continue;
      suspects.add(id);
      if (!this.leftovers.has(id)) continue;
      removeRecord(this.table.host, id, revision).catch((error) => log.warn({ err: error, id }, "a leftover stays"));
    }
    this.leftovers = suspects;
  }

  private leftovers = new Set<string>();
  /** Related connections that are being taken over with their bundles. */
  private readonly withBundle = new Map<string, string>();

  private get own(): ReadonlyMap<string, Known> {
    const { serverId, incarnation } = this.table.host;
    return this.records.of(ownerKey(serverId, incarnation));
  }

  private ours(id: string): Known | undefined {
    return this.own.get(id);
  }

  /** It has a connection here, or is about to. */
  private isTaken(id: string): boolean {
    return this.table.get(id) !== undefined || this.pursuit.has(id) || this.withBundle.has(id);
  }

  private consider(open: Open, known: Known): void {
    const { id, bundleId } = known;
    if (!this.takes || this.isTaken(id) || !this.inherits(open, bundleId || id)) return;
    if (isRelated(known) && this.records.get(bundleId)) return; // it comes with its control connection
    const { id: takeoverId, serverId, incarnation } = open.takeover;
    this.pursue({
      id,
      from: serverId,
      make: () => this.attempt(known, takeoverId, serverId),
      // A claim that the store did not answer may have succeeded: then it is ours.
      isWanted: () => this.open.has(ownerKey(serverId, incarnation)) || this.ours(id) !== undefined,
      done: (result) => {
        if (result) this.report(takeoverId, result);
      },
    });
  }

  /** The last write of a dead server has come when its bundle was ours already. */
  private considerLate(known: Known): void {
    const { id, bundleId, bytes } = known;
    const { serverId, incarnation } = ownerOfRecord(bytes);
    const isDead = this.open.has(ownerKey(serverId, incarnation));
    if (!this.takes || !isDead || this.isTaken(id) || !this.table.get(bundleId)) return;
    this.pursue(this.ownQuarry(known, () => this.resumption(known, { related: true })));
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
}
