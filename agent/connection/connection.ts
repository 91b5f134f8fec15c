import { wallClockUs } from "../../proto/clock.js";
import { BatonError, RefusedError } from "../../proto/errors.js";
import type { Endpoint, Flow } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import { PhaseMachine } from "../../proto/phase.js";
import { type ConnectionRecord, finPromised, outputEnd, type TcpState } from "../../proto/record.js";
import { type Offset, type Sequence, toOffset, toSequence } from "../../proto/sequence.js";
import type { Phase } from "../../proto/vocabulary.js";
import type { ConnectionHandlers, Connection as NativeConnection } from "../native/api.js";
import type { BundlePort, ConnectionPort, Exposure, Response } from "../protocols/application.js";
import type { Stack } from "../protocols/stack.js";
import type { Member } from "./bundles.js";
import { type CommitSource, Committer } from "./committer.js";
import { type Frozen, freeze } from "./frozen.js";
import { Gaps } from "./gaps.js";
import { History } from "./history.js";
import type { ConnectionHost } from "./host.js";
import type { Identity } from "./identity.js";
import { Intake, type IntakePort } from "./intake.js";
import { Nudge } from "./nudge.js";
import { Output } from "./output.js";
import type { PassedOpen } from "./passed.js";
import { Reach } from "./reach.js";
import { Recordings } from "./recordings.js";
import { resetExactly } from "./reset.js";

const log = logger("connection");
/** The floor is committed again when the client has acknowledged this much past it. */
const FLOOR_STEP = 2 ** 27;
/** A connection without a request gets its record after this long: then a survivor needs no luck to adopt it. */
const BIRTH_DELAY_MS = 50;
/** A resumed connection's record is written anew at the latest after once to twice this long. */
const RESUMED_DELAY_MS = 5_000;
/** Errors of a socket whose client has reset it, or is not heard of any more. */
const CLIENT_GONE = ["ECONNRESET", "EPIPE", "ETIMEDOUT"];
/** How long a client that has our FIN may take to send its own (RFC 9112 section 9.6, lingering). */
const LINGER_MS = 10_000;
/** A client that acknowledges nothing for so long, its window shut or itself gone, is given up. */
const STUCK_MS = 600_000;

/**
 * A connection that this server owns: its input, its promises and its record, which goes ahead of both.
 *
 * Output commit: the pump's limit is never past what a committed record covers. Input commit: the guard's clamp is never
 * past the committed `consumed`. Both move only in `committed()`.
 */
export class LiveConnection implements ConnectionPort, Member {
  readonly history = new History();
  readonly phase: PhaseMachine;
  readonly output: Output;
  private readonly intake: Intake;
  private readonly committer: Committer;
  private stack: Stack | undefined; // set before the first byte, but a refusal may come earlier
  private native: NativeConnection | undefined;
  private readonly gaps: Gaps;
  private readonly nudge: Nudge;
  private readonly waiting = new Recordings();
  private readonly reach: Reach;
  private resumedTimer: NodeJS.Timeout | undefined;
  private lastActivityMs = performance.now();
  private finished = false;
  /** Of one that is over: resolves when its record is gone. */
  private removed: Promise<void> = Promise.resolve();

  constructor(
    readonly host: ConnectionHost,
    readonly identity: Identity,
    start: {
      epoch: number;
      revision: number;
      /** The client has acknowledged everything below, as the record says, and the byte before that. */
      position: Offset;
      floorByte: Buffer;
      consumed: Offset;
      processed: Offset;
      clientFinished: boolean;
      spilled: Offset;
      output?: Output;
      phase: Phase;
    },
  ) {
    this.phase = new PhaseMachine(start.phase);
    this.epoch = start.epoch;
    this.output = start.output ?? new Output(start.position);
    this.intake = new Intake(this.intakePort(), host, identity, start);
    this.output.onLost = (reason) => this.unsendable(reason);
    this.gaps = new Gaps(this.output);
    this.nudge = new Nudge(host, identity.flow, identity.tcp.timestamps);
    const { position, floorByte, output } = start;
    this.reach = new Reach({ floor: position, floorByte }, output?.tail ?? position);
    const source: CommitSource = {
      snapshot: () => this.snapshot(),
      committed: (record) => this.committed(record),
      goesAhead: () => host.unprotected,
      lost: (why) => this.lost(why),
      broken: (error) => {
        log.error({ err: error, connection: this.id }, "no record can be made of this connection: it is reset");
        void this.reset(error.message);
      },
    };
    this.committer = new Committer(host.bucket, identity.id, host.writer, start.revision, source, host.commits);
  }

  readonly epoch: number;

  get id(): string {
    return this.identity.id;
  }
  get flow(): Flow {
    return this.identity.flow;
  }
  get peer(): Endpoint {
    return this.identity.flow.client;
  }
  get vip(): Endpoint {
    return this.identity.flow.vip;
  }
  get revision(): number {
    return this.committer.revision;
  }
  /** Whether the descriptor that it works on is its own by now. */
  get hasSocket(): boolean {
    return this.native !== undefined;
  }
  get isOver(): boolean {
    return this.finished;
  }
  get protectionGap(): string {
    if (!this.identity.recorded) return "protection is off for this service";
    if (this.host.unprotected) return "the store is gone";
    return this.gaps.reason || this.stack?.application.gap?.() || (this.committer.everCommitted ? "" : "no record yet");
  }

  /** Why it had better go on here for now; "" = nothing stands against another process or server. */
  get unmovable(): string {
    if (this.intake.isReplaying) return "its input is still read from the store";
    return this.stack?.application.unmovable?.() ?? "";
  }

  get bundleId(): string {
    return this.identity.bundleId;
  }
  get bundle(): BundlePort | undefined {
    return this.bundleId === "" ? undefined : this.host.bundles.portOf(this.bundleId);
  }
  /** One that ends already counts for nothing. */
  get isHalfOpen(): boolean {
    return !this.ended() && (this.stack?.application.halfOpen?.() ?? false);
  }
  /** Of a bundle. */
  get isControl(): boolean {
    return this.bundleId === this.id;
  }

  /** The layers, once they exist; they get this connection as their port. */
  useStack(stack: Stack): void {
    this.stack = stack;
    if (this.bundleId !== "") this.host.bundles.join(this, stack.application);
  }

  private get layers(): Stack {
    if (!this.stack) throw new BatonError("INTERNAL", `${this.id} has no protocol layers`);
    return this.stack;
  }

  /** A freshly accepted socket goes to work. */
  start(fd: number): void {
    this.native = this.host.native.connection(fd, { sendOffset: 0, handlers: this.handlers() });
    this.history.add("accepted");
    this.intake.commitSoon(BIRTH_DELAY_MS);
    this.layers.application.begin?.();
  }

  /** As `start`, but its client has too many like it: it is told so where its protocol has words for it. */
  turnAway(fd: number): void {
    this.native = this.host.native.connection(fd, { sendOffset: 0, handlers: this.handlers() });
    this.history.add("turned away");
    const { application } = this.layers;
    if (application.turnAway) application.turnAway();
    else void this.reset("its client has too many half-open connections");
  }

  /**
   * A rebuilt socket goes to work at `position`, the client's exact ack. Promises below it are done; the layers have had their
   * `ready`. Input that the record spooled is given to the application again.
   * @param sentTo behind what the former owner has sent, which the socket holds as sent.
   * @param limit behind what may leave before the next commit; missing: the claim has committed all of it.
   */
  resume(fd: number, position: Offset, spool: Buffer, sentTo: Offset = position, limit?: Offset): void {
    this.reach.resume(position, limit ?? this.output.tail);
    if (this.isControl) this.host.bundles.thaw(this.id);
    this.layers.ready(position, limit === undefined && (this.isControl || this.bundleId === ""));
    this.work(fd, sentTo);
    this.intake.restore(spool);
    // The claim's record is true of all that leaves until the next commit, and there may be thousands to be resumed first.
    this.resumedTimer = setTimeout(() => this.commit(), RESUMED_DELAY_MS * (1 + Math.random()));
  }

  /** Its record is this server's from now on. */
  claimed(revision: number): void {
    this.committer.resume(revision);
  }

  private work(fd: number, sentTo: Offset): void {
    this.native = this.host.native.connection(fd, { sendOffset: sentTo, handlers: this.handlers() });
    this.output.begin(sentTo);
    this.native.append(this.output.from(sentTo));
    this.setLimit();
  }

  // ---- handing over ----

  /**
   * Stops the connection for another server: from here on nothing leaves and nothing enters. `thaw` or `handedOver` comes next.
   * Throws RefusedError where it cannot be handed over now; it goes on then.
   */
  async freeze(): Promise<Frozen> {
    if (this.finished || !this.native || this.phase.phase !== "LIVE") throw new RefusedError("it is not live");
    if (this.unmovable !== "") throw new RefusedError(this.unmovable);
    if (this.protectionGap !== "") throw new RefusedError(`it is not protected: ${this.protectionGap}`);
    this.phase.move("HELD");
    await this.committer.pause();
    const { native, guard } = this.host;
    let detached: { fd: number; sentOffset: Offset } | undefined;
    try {
      if (this.finished || !this.native) throw new RefusedError("it has ended");
      if (this.unmovable !== "") throw new RefusedError(this.unmovable); // it has begun with something meanwhile
      detached = this.native.detach(); // first: with nothing detached nothing is to be thawed
      this.native = undefined;
      guard.change(this.flow, { phase: "FROZEN" });
      if (this.isControl) this.host.bundles.freeze(this.id);
      const image = native.capture(detached.fd, true);
      const entry = guard.lookup(this.flow);
      if (!entry) throw new RefusedError("the guard does not know it");
      this.phase.move("FROZEN");
      this.clearTimers();
      this.history.add("frozen");
      this.reach.see(this.toOurOffset(image.sendUna));
      const { recordBytes } = this.host.limits;
      return freeze({ snapshot: this.snapshot(true), revision: this.revision, ...detached, image, entry, recordBytes });
    } catch (error) {
      if (detached) this.goOn(detached.fd, detached.sentOffset, this.revision);
      else this.goOnLive(this.revision);
      throw error;
    }
  }

  private toOurOffset(sequence: Sequence): Offset {
    return toOffset(this.identity.tcp.serverIsn, sequence, this.reach.acknowledged);
  }

  /** The handover is off: everything goes on here. @param revision of the record in the store by now. */
  thaw({ fd, writtenTo }: Frozen, revision: number): void {
    if (this.finished) {
      this.host.native.closeInRepair(fd);
      return;
    }
    this.goOn(fd, writtenTo, revision);
  }

  private goOn(fd: number, writtenTo: Offset, revision: number): void {
    this.host.guard.change(this.flow, { phase: "LIVE" });
    if (this.isControl) this.host.bundles.thaw(this.id);
    this.host.native.resume(fd);
    this.work(fd, writtenTo);
    this.goOnLive(revision);
    this.lookAgain();
  }

  private goOnLive(revision: number): void {
    this.phase.move("RESUMED_ON_OLD");
    this.phase.move("LIVE");
    this.history.add("resumed");
    this.committer.resume(revision);
  }

  /** Another server has it: nobody hears of the end of this socket. */
  handedOver({ fd }: Frozen, to: string): void {
    this.host.native.closeInRepair(fd);
    this.host.guard.remove(this.flow);
    this.lost(`handed over to ${to}`);
  }

  // ---- passing on to another process of this server ----

  /**
   * Lets go of a live connection without a word: same owner, epoch and writer. Meanwhile the kernel goes on sending what it was
   * given, and acknowledging what is committed.
   * @param whatever also where it is in the middle of something that cannot be gone on with
   * @returns "over"; "busy" where it is, and goes on here
   */
  async passOn(whatever: boolean): Promise<PassedOpen | "over" | "busy"> {
    await this.committer.pause();
    if (this.finished || !this.native) return "over";
    if (!whatever && this.unmovable !== "") {
      this.committer.resume(this.revision);
      return "busy";
    }
    const { committer, output } = this;
    const { limit, covered } = this.reach;
    const behind = committer.behind || this.intake.isBehind || limit < covered;
    const record = this.snapshot(true);
    const sources = this.layers.application.sources?.() ?? [];
    const { fd, sentOffset: writtenTo } = this.native.detach();
    this.native = undefined;
    this.finished = true;
    this.clearTimers();
    committer.stop();
    this.intake.end(false);
    void this.letGoOfLayers(false);
    this.host.ended(this, "passed on");
    return {
      ...{ record, revision: committer.revision, recorded: this.identity.recorded, behind, limit, writtenTo, fd },
      ...{ files: output.files, sources: sources.map((source) => source.fd) },
      release: () => {
        output.close();
        for (const source of sources) source.close();
      },
    };
  }

  // ---- what the application layer asks for (ConnectionPort) ----

  tail(): Offset {
    return this.output.tail;
  }

  holds(offset: Offset): boolean {
    return this.output.holds(offset);
  }

  ended(): boolean {
    return this.output.finOffset !== undefined;
  }

  sequence(offset: Offset): Sequence {
    return toSequence(this.identity.tcp.serverIsn, offset);
  }

  respond(response: Response): void {
    if (this.finished) {
      for (const piece of response.pieces) if ("file" in piece) piece.file.close();
      return;
    }
    const from = this.output.tail;
    let objectAt: Offset | undefined;
    for (const piece of response.pieces) {
      if ("literal" in piece) this.output.appendLiteral(piece.literal);
      else {
        objectAt = this.output.tail;
        this.output.appendObject(piece.object, piece.file);
      }
    }
    if (response.fin) this.output.appendFin();
    this.native?.append(this.output.from(from));
    if (response.unprotected && objectAt !== undefined) this.protectLater(objectAt, response);
    this.processed(response.processed);
    this.commit();
  }

  /** The object promised at `offset` has no validator until `protect` resolves. */
  protectLater(offset: Offset, { unprotected = "", protect }: Pick<Response, "unprotected" | "protect">): void {
    this.gaps.open(offset, unprotected);
    protect?.then(
      (object) => {
        this.gaps.close(offset);
        if (!this.finished && this.output.protect(offset, object)) this.commit();
      },
      (error: Error) => this.gaps.open(offset, error.message),
    );
  }

  recorded(): Promise<void> {
    const recorded = this.waiting.join();
    this.commit();
    return recorded;
  }

  processed(offset: Offset): void {
    this.intake.processed(offset);
  }

  get keeps(): number {
    return this.intake.keeps;
  }

  took(offset: Offset): void {
    this.intake.took(offset);
  }

  exposed(exposure: Exposure): void {
    if (this.identity.recorded) this.host.exposures.add(this.id, exposure); // else nothing of the service is protected
  }

  /** Resets the client, exactly and on purpose. */
  reset(reason: string): Promise<void> {
    if (this.finished) return this.removed;
    this.history.add("reset", "", reason);
    resetExactly(this.host, this.flow, () => this.native?.closeSilently());
    this.native = undefined;
    return this.discard(reason);
  }

  // ---- input ----

  private handlers(): ConnectionHandlers {
    return {
      onInput: (chunk) => {
        this.lastActivityMs = performance.now();
        this.intake.receive(chunk);
      },
      onInputEnd: () => {
        if (this.input.ended) return; // said again by a socket that was passed on
        this.input.finish();
        this.history.add("client finished");
        this.layers.application.inputEnd();
        this.commit();
      },
      onDrained: (offset) => {
        this.lastActivityMs = performance.now();
        if (this.reach.isSpent(offset)) this.moveFloor(1);
        this.tellAcknowledged(this.acknowledged());
      },
      onError: (code) => this.failed(code),
    };
  }

  /** Only the client's own doing ends a connection in order: whatever else, it would wait for the rest for ever. */
  private failed(code: string): void {
    if (CLIENT_GONE.includes(code)) {
      this.finish(code);
      return;
    }
    this.unsendable(
      code === "EIO" ? "an object is shorter than promised, or cannot be read (EIO)" : `its socket failed: ${code}`,
    );
  }

  private unsendable(reason: string, err?: Error): void {
    if (this.finished) return;
    log.error({ connection: this.id, reason, err }, "it cannot be gone on with: the client is reset");
    void this.reset(reason);
  }

  private get input() {
    return this.intake.input;
  }

  private intakePort(): IntakePort {
    const connection = this;
    return {
      get application() {
        return connection.layers.application;
      },
      get isOver() {
        return connection.finished;
      },
      pauseInput: () => this.native?.pauseInput(),
      resumeInput: () => {
        this.lastActivityMs = performance.now(); // from now on it is the client's turn
        this.native?.resumeInput();
      },
      commit: () => this.commit(),
      lost: (error) => this.unsendable(error.message, error),
    };
  }

  // ---- the record ----

  /** Writes the record as it is now. */
  commit(): void {
    if (this.finished) return;
    clearTimeout(this.resumedTimer);
    this.intake.clearTimer();
    if (this.identity.recorded) this.committer.request();
    else this.goUnrecorded();
  }

  /** Goes on as things are by now: what may leave without a record has changed, or the socket. */
  lookAgain(): void {
    if (!this.native) return; // not yet, or not any more
    this.intake.lookAgain();
    this.commit();
  }

  /** Everything may leave as it is promised; only our FIN needs the guard's leave as always. */
  private goUnrecorded(): void {
    this.waiting.all();
    const acknowledged = this.acknowledged();
    this.output.trim(acknowledged);
    const fin = this.output.finOffset;
    if (fin !== undefined && this.reach.covered <= fin) {
      this.host.guard.change(this.flow, { finSeq: this.sequence(fin) });
    }
    this.reach.commitUnrecorded(this.output.tail);
    this.native?.setLimit(this.reach.covered);
    this.tellAcknowledged(acknowledged);
    this.finishIfDone();
  }

  /** @param whole all of the input that was read, not just what may be acknowledged */
  private snapshot(whole = false): ConnectionRecord {
    const { identity, host } = this;
    const acknowledged = this.acknowledged();
    const floor = this.reach.nameFloor(this.output);
    this.output.trim(floor.floor);
    const input = this.intake.part(whole);
    const record: ConnectionRecord = {
      version: 1,
      id: identity.id,
      serverId: host.serverId,
      incarnation: host.incarnation,
      epoch: this.epoch,
      takenAtUs: wallClockUs(),
      bornAtUs: identity.bornAtUs,
      bundleId: identity.bundleId,
      flow: identity.flow,
      service: identity.service,
      protocol: identity.protocol,
      tcp: this.tcpState(),
      layers: [],
      output: this.output.pieces,
      ...floor,
      ...input,
      phase: "LIVE",
      // Its first record does away with "no record yet".
      unprotectedReason: this.committer.everCommitted ? this.protectionGap : this.gaps.reason,
      writer: host.writer,
    };
    this.tellAcknowledged(acknowledged);
    record.layers = this.layers.checkpoint();
    const flows = this.layers.application.flows?.() ?? [];
    if (flows.length > 0) record.flows = flows;
    this.waiting.taken(record);
    return record;
  }

  /** The live socket's part of a record; the input's is taken before. */
  tcpState(): TcpState {
    const { tcp } = this.identity;
    const clock = this.native?.timestampClock() ?? 0;
    return {
      ...tcp,
      clientSeq: toSequence(tcp.clientIsn, this.intake.recorded),
      serverSeq: toSequence(tcp.serverIsn, this.native?.sentOffset() ?? this.reach.acknowledged),
      timestampClock: clock,
      timestampUsec: (clock & 1) !== 0,
    };
  }

  private committed(record: ConnectionRecord): void {
    if (this.finished) return;
    this.lastActivityMs = performance.now(); // the client's ack may have waited for it
    const { guard } = this.host;
    const { covered } = this.reach;
    const sendsMore = this.reach.commit(record);
    const entry = guard.change(this.flow, {
      consumed: toSequence(this.identity.tcp.clientIsn, record.consumed),
      ...(finPromised(record) && { finSeq: this.sequence(outputEnd(record) - 1) }),
    });
    if (!entry) {
      this.lost("the guard does not know this connection");
      return;
    }
    this.setLimit();
    this.waiting.committed(record);
    if (!this.host.unprotected) this.intake.committed(record); // else it may be ahead of the store's
    // A clamped ack is not repeated by the kernel, which believes that it was sent: say it, unless data goes out now and carries it.
    if (entry.clampedSinceNs !== 0n) this.nudge.due(sendsMore, () => this.acknowledged() > covered);
    this.finishIfDone();
  }

  private setLimit(): void {
    this.native?.setLimit(this.reach.limit);
  }

  /** Called by the table's clock: big bodies move their floor on, and idle connections end. */
  tick(idleMs: number): void {
    if (this.finished || !this.native) return;
    const acknowledged = this.acknowledged();
    this.tellAcknowledged(acknowledged);
    this.output.release(acknowledged);
    this.moveFloor(FLOOR_STEP);
    this.finishIfDone();
    if (this.finished) return;
    const quietMs = performance.now() - this.lastActivityMs;
    const fin = this.output.finOffset;
    if (fin !== undefined && this.acknowledged() > fin) {
      if (quietMs > LINGER_MS) this.finish("lingered");
    } else if (this.output.tail > this.acknowledged()) {
      if (quietMs > STUCK_MS) void this.reset("the client took nothing for too long");
    } else if (quietMs > (this.layers.application.idleMs ?? idleMs) && (this.unmovable === "" || this.awaitsClient)) {
      this.history.add("idle");
      this.layers.application.inputEnd(true);
    }
  }

  /** A client without its ack, or with a window that is shut, waits for us. */
  private get awaitsClient(): boolean {
    if (!this.intake.isSettled || !this.committer.isSettled) return false;
    return this.layers.application.awaitsClient?.() ?? false;
  }

  /** Whether the clock should look at it often: a big body's floor moves, or a layer may be waiting for acks, which come unsaid. */
  get wantsAttention(): boolean {
    if (this.finished) return false;
    if (this.output.fetches) return true; // what is acknowledged need not be kept
    const { tail } = this.output;
    return tail - this.reach.floor > FLOOR_STEP || (this.input.waiting > 0 && this.reach.told < tail);
  }

  moveFloor(step: number): void {
    if (this.native && this.acknowledged() - this.reach.floor >= step) this.commit();
  }

  private tellAcknowledged(position: Offset): void {
    if (this.reach.tell(position)) this.layers.application.acknowledged(position);
  }

  acknowledged(): Offset {
    if (this.native && this.reach.see(this.native.acknowledged())) this.lastActivityMs = performance.now();
    return this.reach.acknowledged;
  }

  // ---- the end ----

  /** The kernel's state as the guard reports it. */
  stateChanged(tcpState: number): void {
    const CLOSE = 7;
    const TIME_WAIT = 6;
    if (tcpState === CLOSE || tcpState === TIME_WAIT) this.finish("closed");
    else this.finishIfDone();
  }

  /** A client whose FIN was taken in by an earlier owner never sends it again: its last ack ends the connection. */
  private finishIfDone(): void {
    const fin = this.output.finOffset;
    if (fin === undefined || !this.input.ended || this.reach.covered <= fin) return;
    if (this.acknowledged() > fin) this.finish("closed");
  }

  private finish(how: string): void {
    void this.discard(how);
  }

  /** Over for good: the record goes too. Resolves when it has. */
  discard(how: string): Promise<void> {
    if (this.finished) return this.removed;
    this.finished = true;
    this.history.add("ended", "", how);
    this.clearTimers();
    this.acknowledged(); // the last of it: the layers may ask
    this.native?.close();
    this.native = undefined;
    const related = this.isControl ? this.host.bundles.endRelated(this.id, how) : undefined;
    const written = this.closeLayers(true);
    this.committer.stop();
    this.host.ended(this, how);
    this.removed = Promise.all([related, written])
      .then(() => this.committer.remove())
      .then((isGone) => this.intake.end(isGone)); // what another owner's record needs stays
    return this.removed;
  }

  /**
   * Somebody else owns the record now, or this server is fenced: nothing more may be said or written.
   * @param alone the rest of its bundle goes on here
   */
  lost(why: string, alone = false): void {
    if (this.finished) return;
    if (this.isControl && !alone) this.host.bundles.loseRelated(this.id, why);
    this.finished = true;
    this.history.add("lost", "", why);
    this.clearTimers();
    this.committer.stop();
    this.intake.end(false);
    this.native?.closeSilently();
    this.native = undefined;
    void this.closeLayers(false);
    this.host.ended(this, why);
  }

  private closeLayers(isOver: boolean): void | Promise<void> {
    if (this.phase.phase === "UNREADY" || this.phase.phase === "REFUSED") this.stack?.undo();
    const written = this.letGoOfLayers(isOver);
    this.output.close();
    return written;
  }

  private letGoOfLayers(isOver: boolean): void | Promise<void> {
    if (this.bundleId !== "") this.host.bundles.leave(this);
    return this.stack?.application.closed(isOver);
  }

  private clearTimers(): void {
    clearTimeout(this.resumedTimer);
    this.intake.clearTimer();
    this.nudge.stop();
  }

  describe() {
    const acknowledged = this.acknowledged();
    const sent = this.native?.sentOffset() ?? acknowledged;
    const application = this.stack?.application.describe(acknowledged);
    const { clientIsn, serverIsn } = this.identity.tcp;
    return {
      id: this.id,
      phase: this.phase.phase,
      bytesSent: sent,
      bytesReceived: this.input.received,
      clientSeq: toSequence(clientIsn, this.input.consumed),
      serverSeq: toSequence(serverIsn, sent),
      object: application?.object ?? "",
      objectOffset: application?.objectOffset ?? 0,
      firstByteSeq: application?.firstByteSequence ?? 0,
      isProtected: this.protectionGap === "",
      reason: this.protectionGap,
      ageSeconds: Math.max(0, (wallClockUs() - this.identity.bornAtUs) / 1e6),
      tcpState: this.native?.info().state ?? 7,
      outstanding: Math.max(0, this.output.tail - acknowledged),
    };
  }
}
