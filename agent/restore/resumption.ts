import { BatonError, RefusedError } from "../../proto/errors.js";
import { flowText } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import { type ConnectionRecord, decodeRecord, encodeRecord } from "../../proto/record.js";
import { distance, toSequence } from "../../proto/sequence.js";
import { ConflictError } from "../../proto/store/index.js";
import type { TakeoverOutcome } from "../../proto/vocabulary.js";
import type { LiveConnection } from "../connection/connection.js";
import { exactReset } from "../connection/reset.js";
import type { ConnectionTable } from "../connection/table.js";
import { guardFlag } from "../guard/index.js";
import { acknowledgement, saidBy } from "./acknowledgement.js";
import type { Attempt, ResumptionResult } from "./attempt.js";
import { TimestampClock } from "./clock.js";
import { expectationOf } from "./compare.js";
import { type AnswerDesk, type Outcome, Reattachment, type Subject } from "./reattachment.js";
import { removeRecord } from "./removal.js";
import type { RepairSocket } from "./repair_socket.js";
import { beginSpeechless, beginUnready, type ObjectRefusal, prepareUnready } from "./unready.js";
import { watchLate } from "./watch_late.js";

const log = logger("takeover");
/** The reason of a refusal that is nobody's but this server's; its log has the cause. */
const TAKEOVER_FAILED = "the takeover failed too often";
/** A dead owner has no more than one write in flight for a key; more tries than this mean that it is not dead. */
const CLAIM_TRIES = 5;

export interface ResumptionOptions {
  /** The client must prove itself by echoing the probe: there was no record before. */
  nonce: boolean;
  /** The record is ours already (an adoption wrote it, or an earlier try). */
  claimed: boolean;
  /** Whose the connection was, if that is not in the record any more. */
  from?: string;
  /** Why it cannot go on here, whatever its record allows: the client is asked for its ack, and reset. */
  refusal?: string;
  /** Its bundle's control connection is ours: so is its record, whoever wrote it last. */
  related?: boolean;
}

/**
 * Takes one connection over from its record:
 *
 *   claim (compare-and-set of the owner) ─┐
 *   unready (layers, objects, socket) ────┴► probe ► compare ► rebuild ► ready (layers) ► LIVE
 *
 * Nothing is sent before the claim stands. What the record does not allow ends in REFUSED with an exact reset. What fails for want of
 * something else (the store, a descriptor, room in the guard) has changed nothing, and may be tried `again`.
 */
export class Resumption implements Attempt {
  private readonly startedAt = performance.now();
  private readonly phasesUs: Record<string, number> = {};
  private objectRefusals: ObjectRefusal[] = [];
  private connection: LiveConnection | undefined;
  /** Why a layer cannot go on from the record; the client is asked all the same, for an exact reset. */
  private unfit: RefusedError | undefined;
  private socket: RepairSocket | undefined;
  private reattachment: Reattachment | undefined;
  private claimed: boolean;
  private readonly from: string;
  private error: unknown;

  /** @param revision of `record` in the store. */
  constructor(
    private readonly table: ConnectionTable,
    private readonly desk: AnswerDesk,
    private record: ConnectionRecord,
    private revision: number,
    private readonly options: ResumptionOptions,
  ) {
    this.from = options.from ?? record.serverId;
    this.claimed = options.claimed;
  }

  get id(): string {
    return this.record.id;
  }

  /** Of its record in the store, once it is claimed. */
  get claimedAt(): number {
    return this.revision;
  }

  get isOurs(): boolean {
    return this.claimed;
  }

  get failure(): unknown {
    return this.error;
  }

  again(refuse: boolean): Resumption {
    const options = { ...this.options, claimed: this.claimed, from: this.from };
    return new Resumption(this.table, this.desk, this.record, this.revision, {
      ...options,
      ...(refuse && { refusal: TAKEOVER_FAILED }),
    });
  }

  async abandon(): Promise<void> {
    log.error({ connection: this.record.id }, "a connection is given up: its client could not be reset");
    await removeRecord(this.table.host, this.record.id, this.revision).catch((error) => {
      log.warn({ err: error, connection: this.record.id }, "its record stays for now");
    });
  }

  async run(waiting: () => void): Promise<ResumptionResult | undefined> {
    try {
      if (!(await this.claim())) return undefined;
      const outcome = await this.reattach(waiting);
      return await this.finish(outcome, this.refusalOf(outcome));
    } catch (error) {
      return this.undo(error as Error);
    }
  }

  // ---- the steps, in their order; whatever one of them throws, `undo` comes next ----

  /** Makes the record ours. @returns false where somebody else has it, or it is over */
  async claim(): Promise<boolean> {
    if (!this.claimed && !(await this.claimRecord())) return false;
    this.claimed = true;
    this.mark("claimed");
    return true;
  }

  /** Builds the connection, silent, and asks the client where it is. */
  async reattach(waiting: () => void): Promise<Outcome> {
    const { table, record, revision, options } = this;
    if (options.refusal !== undefined) {
      this.connection = beginSpeechless(table, record, revision, "PROBE");
      this.connection.history.add("taken over", "", `from ${this.from}, to be reset`);
    } else {
      ({ connection: this.connection, socket: this.socket } = beginUnready(table, record, revision, "PROBE"));
      this.connection.history.add("taken over", "", `from ${this.from}, epoch ${record.epoch}`);
      this.unfit = await this.prepare(this.connection);
      this.mark("unready");
    }
    const answered = this.ask(this.connection, this.socket);
    waiting();
    return answered;
  }

  /** Whatever the client has not answered by now it does not answer. */
  giveUp(): void {
    this.reattachment?.giveUp();
  }

  /** Why it cannot go on, now that the client has answered; undefined: it can, or is over. */
  refusalOf(outcome: Outcome): string | undefined {
    if (this.unfit && outcome.kind === "match") return this.unfit.reason;
    if (outcome.kind !== "refused") return undefined;
    return (outcome.answer && this.options.refusal) || outcome.reason;
  }

  /** It goes on, is over, or is refused for this reason. */
  async finish(outcome: Outcome, refusal: string | undefined): Promise<ResumptionResult> {
    const connection = this.connection as LiveConnection;
    const result =
      refusal === undefined
        ? await this.finishWith(connection, outcome)
        : await this.refuse(connection, refusal, outcome);
    // Nothing of it is left, and others may wait for its place.
    if (this.options.refusal !== undefined && outcome.kind === "refused") this.table.host.guard.remove(connection.flow);
    return result;
  }

  /** It has failed: nothing of it is left here, and nothing has been said. */
  undo(error: Error): ResumptionResult {
    const { commits, guard } = this.table.host;
    this.error = error;
    if (this.claimed) log.error({ err: error, connection: this.record.id }, "takeover failed");
    else commits.refuse(this.record.id, error);
    this.socket?.close();
    if (this.connection) {
      guard.remove(this.connection.flow);
      this.connection.lost(error.message);
    }
    return this.result("failed", error.message);
  }

  /** Makes the record ours, if it is still the dead owner's. Its last write may have landed after our read: then the newer one is claimed. */
  private async claimRecord(): Promise<boolean> {
    const { host } = this.table;
    for (let tries = 0; tries < CLAIM_TRIES; tries++) {
      const mine: ConnectionRecord = {
        ...this.record,
        serverId: host.serverId,
        incarnation: host.incarnation,
        epoch: this.record.epoch + 1,
        phase: "UNREADY",
        writer: host.writer,
      };
      try {
        this.revision = await host.bucket.commit(
          mine.id,
          encodeRecord(mine),
          this.revision,
          `${mine.id}/${host.writer}/claim/${this.revision}`,
          (bytes) => {
            const present = decodeRecord(bytes);
            return present.writer === host.writer && present.epoch === mine.epoch;
          },
        );
        this.record = mine;
        return true;
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error;
        if (error.present.removed || error.present.revision === 0) return false; // it ended with its owner
        const present = decodeRecord(error.present.bytes);
        const { serverId, incarnation } = this.record;
        const isOf = present.serverId === serverId && present.incarnation === incarnation;
        if (!isOf && !this.options.related) return false; // another heir has it
        this.record = present;
        this.revision = error.present.revision;
      }
    }
    throw new BatonError("STORE_CONFLICT", `the record of a dead server kept changing: ${this.record.id}`);
  }

  private async prepare(connection: LiveConnection): Promise<RefusedError | undefined> {
    try {
      this.objectRefusals = await prepareUnready(this.table, connection, this.record);
      return undefined;
    } catch (error) {
      if (error instanceof RefusedError) return error;
      throw error;
    }
  }

  private subject(): Subject {
    const { flow, floorByte, tcp } = this.record;
    return { ...expectationOf(this.record, this.options.nonce), flow, floorByte, tcp };
  }

  private ask(connection: LiveConnection, socket: RepairSocket | undefined): Promise<Outcome> {
    const clock = new TimestampClock(this.record.tcp, this.record.takenAtUs);
    const attempt = new Reattachment(
      this.table.host,
      this.subject(),
      clock,
      this.desk,
      (what, detail) => {
        this.mark(what);
        connection.history.add(what, "", detail);
      },
      (position) => {
        if (this.options.refusal !== undefined) throw new RefusedError(this.options.refusal);
        const missing = this.objectRefusals.find(({ end }) => position < end);
        if (missing) throw missing.refusal;
      },
      socket,
    );
    this.reattachment = attempt;
    return attempt.run();
  }

  private async finishWith(connection: LiveConnection, outcome: Outcome): Promise<ResumptionResult> {
    const { host } = this.table;
    switch (outcome.kind) {
      case "finished":
      case "gone":
        host.guard.change(connection.flow, { phase: "ENDED" });
        await this.discard(
          connection,
          outcome.kind === "gone" ? "the client has reset it" : "everything was acknowledged",
        );
        return this.result(outcome.kind, "");
      case "refused":
        throw new BatonError("INTERNAL", "a refused connection cannot go on");
      case "match": {
        const { flow, identity } = connection;
        connection.phase.move("READY");
        host.guard.change(flow, {
          phase: "LIVE",
          consumed: toSequence(identity.tcp.clientIsn, this.record.consumed),
          sendNext: toSequence(identity.tcp.serverIsn, outcome.position), // acks past it are late data's
          setFlags: guardFlag.WATCH_LATE,
          said: saidBy(this.record.tcp, outcome.image, outcome.answer.tsval),
        });
        try {
          host.native.activate(outcome.fd, outcome.image);
          connection.resume(outcome.fd, outcome.position, this.record.spool);
        } catch (error) {
          if (!connection.hasSocket) host.native.closeInRepair(outcome.fd);
          throw error;
        }
        connection.phase.move("LIVE");
        this.table.addLive(connection);
        this.tell(outcome);
        this.mark("ready");
        watchLate(connection);
        return this.result("ok", "");
      }
    }
  }

  /** It answered from below what was taken in: its window may be shut, and there may be nothing of ours that would bear an ack. */
  private tell({ position, image, answer }: Outcome & { kind: "match" }): void {
    if (distance(answer.seq, image.receiveNext) <= 0) return;
    const { flow, tcp } = this.record;
    const sendNext = toSequence(tcp.serverIsn, position);
    this.table.host.native.sendSegments([acknowledgement(flow, tcp, image, sendNext, answer.tsval)]);
  }

  private async refuse(connection: LiveConnection, reason: string, outcome: Outcome): Promise<ResumptionResult> {
    const { host } = this.table;
    const { flow, identity } = connection;
    let exact: number | undefined;
    if (outcome.kind === "match") exact = toSequence(identity.tcp.serverIsn, outcome.position);
    else if (outcome.kind === "refused" && outcome.answer) exact = outcome.answer.ack;
    connection.phase.move("REFUSED");
    connection.history.add("refused", "", reason);
    log.warn({ connection: connection.id, flow: flowText(flow), reason }, "refused: the client is reset");
    if (exact !== undefined) {
      host.guard.change(flow, { setFlags: guardFlag.RST_ASKED });
      host.native.sendSegments([exactReset(flow, exact, toSequence(identity.tcp.clientIsn, this.record.consumed))]);
    }
    host.guard.change(flow, { phase: "ENDED" });
    if (outcome.kind === "match") host.native.closeInRepair(outcome.fd);
    await this.discard(connection, reason);
    return this.result("refused", reason);
  }

  /** A related one's record may outlive it until its control connection's says what came of it, and that one is not ready yet. */
  private async discard(connection: LiveConnection, how: string): Promise<void> {
    const removed = connection.discard(how);
    if (!this.options.related) await removed;
  }

  private mark(what: string): void {
    this.phasesUs[what] = Math.round((performance.now() - this.startedAt) * 1000);
  }

  private result(result: TakeoverOutcome, reason: string): ResumptionResult {
    const { id, flow, epoch } = this.record;
    return { id, flow, result, reason, epoch, from: this.from, phasesUs: this.phasesUs };
  }
}
