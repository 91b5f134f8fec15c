import type { PortRange } from "../../../proto/config/index.js";
import { RefusedError } from "../../../proto/errors.js";
import { type Logger, logger } from "../../../proto/log.js";
import type { FtpSection, FtpTransfer } from "../../../proto/sections.js";
import type { BundlePort, ConnectionPort } from "../application.js";
import { ActivePort } from "./active.js";
import type { Area } from "./areas.js";
import type { FtpDataLayer, TransferOwner } from "./data_layer.js";
import { failureReply } from "./failure.js";
import {
  extendedPassiveReply,
  isOwn,
  parseExtendedPassive,
  parseExtendedPort,
  parsePort,
  passiveReply,
  protocolOf,
  protocolReply,
} from "./host_port.js";
import { PassivePorts } from "./passive.js";
import { codeOf, replies, reply } from "./reply.js";
import { isOpen, isSame, letGo, open, type Prepared, prepare } from "./transfer.js";

const log = logger("ftp");
/** For a data connection that was announced, milliseconds. */
const OPENING_MS = 30_000;

/** A transfer whose command has come. */
interface Transferring {
  transfer: FtpTransfer;
  /** Here. */
  beganAtMs: number;
  /** Until its data connection has it. */
  prepared: Prepared | undefined;
  timer: NodeJS.Timeout | undefined;
  /** Resolves when 150 is said; until then no other command is looked at. */
  begun?: Promise<void>;
  isBeginning?: boolean;
  /** What came of it is known, and is about to be said. */
  isOver?: boolean;
}

/** The control connection, as its transfers need it. */
export interface TransferHost {
  readonly state: FtpSection;
  readonly isOver: boolean;
  /** For a line of each transfer. */
  readonly log: Pick<Logger, "info">;
  area(): Promise<Area>;
  /** Client stream offset up to which lines are answered. */
  readonly answered: number;
  /** The line that ends there needs no answer any more, or none yet. */
  use(endOffset: number): void;
  answer(literal: Buffer, endOffset?: number): void;
  /** Goes on with the next line. */
  advance(): void;
}

/**
 * The data connections of a session and what they are for, one transfer at a time:
 *
 *   announced ─► command ─► prepared ─► data connection there ─► it is recorded with its transfer ─► 150 ─► transferred ─► 226
 *                                └─ none in time: 425
 */
export class Transfers implements TransferOwner {
  private current: Transferring | undefined;
  /** A transfer may have a data connection that has heard of it before this connection's record did. */
  private mayBeBegun = false;
  /** Ends of transfers, by data connection. */
  private readonly ends = new Map<string, Promise<void>>();
  private readonly gone: Promise<void>;
  private go!: () => void;
  private readied: Promise<void> = Promise.resolve();
  private beReady: (() => void) | undefined;
  private readonly bundle: BundlePort;
  private readonly passive: PassivePorts;
  private readonly active: ActivePort;

  constructor(
    private readonly host: TransferHost,
    private readonly port: ConnectionPort,
    range: PortRange,
    dataPort: number,
  ) {
    if (!port.bundle) throw new RefusedError("no bundle", "an FTP connection is of no bundle");
    this.bundle = port.bundle;
    this.passive = new PassivePorts(port.bundle, range);
    this.active = new ActivePort(port.bundle, dataPort);
    this.gone = new Promise((resolve) => {
      this.go = resolve;
    });
  }

  get transfer(): FtpTransfer | undefined {
    return this.current?.transfer;
  }

  /** Neither may any other command be taken. */
  get isBeginning(): boolean {
    return this.current?.isBeginning ?? false;
  }

  /** A command was executed. */
  executed(): void {
    this.mayBeBegun = false;
  }

  private get data(): FtpDataLayer[] {
    return this.bundle.related as FtpDataLayer[];
  }

  /** PASV and EPSV. */
  async announce(verb: string, argument: string): Promise<Buffer> {
    const { host, port, passive } = this;
    const { state } = host;
    const protocol = protocolOf(port.peer.address);
    if (verb === "EPSV") {
      const asked = parseExtendedPassive(argument);
      if (asked === undefined) return replies.badArgument;
      if (asked === "all") {
        state.extendedOnly = true;
        return replies.ok;
      }
      if (asked !== "any" && asked !== protocol) return protocolReply(protocol);
    } else if (state.extendedOnly || protocol === 2) {
      return state.extendedOnly ? replies.badSequence : protocolReply(2);
    }
    this.dropIdle();
    try {
      state.ports = await passive.announce(state.ports);
    } catch (error) {
      log.warn({ reason: (error as Error).message }, "no port for a data connection");
      return replies.noDataConnection;
    }
    state.ports = passive.trim(state.ports);
    state.passivePort = state.ports.at(-1) ?? 0;
    passive.expect(state.passivePort);
    return verb === "EPSV"
      ? extendedPassiveReply(state.passivePort)
      : passiveReply({ address: port.vip.address, port: state.passivePort });
  }

  /** The client waits for its data connections itself: at its own address alone. */
  nameOwnPort(verb: string, argument: string): Buffer {
    const { peer } = this.port;
    if (this.host.state.extendedOnly) return replies.badSequence;
    const named = verb === "PORT" ? parsePort(argument) : parseExtendedPort(argument);
    if (named === "protocol") return protocolReply(protocolOf(peer.address));
    if (!named) return replies.badArgument;
    if (!isOwn(named, peer.address))
      return reply(501, "Data goes to your own address, and to a port above 1023, only.");
    this.dropIdle();
    this.host.state.activePort = named.port;
    return replies.ok;
  }

  /** A data connection that no command has come for is not wanted any more. */
  dropIdle(): void {
    this.passive.expectNone(this.host.state.passivePort);
    this.host.state.passivePort = 0;
    this.host.state.activePort = 0;
    for (const data of this.data) if (!data.transfer) data.dismiss();
  }

  /** Its command has come. Throws FileError, or what is this server's matter. @returns what is to be answered, if that is not said here */
  async begin(asked: FtpTransfer, endOffset: number): Promise<Buffer | undefined> {
    const { host } = this;
    const { state } = host;
    const area = await host.area();
    // Its data connection may have been recorded with it by a server that died before its control connection was.
    if (this.isBegun(asked, endOffset)) return undefined;
    if (state.passivePort === 0 && state.activePort === 0 && !this.idle()) return replies.noDataConnection;
    let prepared: Prepared;
    try {
      prepared = await prepare(asked, area);
    } catch (error) {
      this.dropIdle();
      throw error;
    }
    if (this.host.isOver) {
      letGo(prepared);
      return undefined;
    }
    this.current = begun(asked, prepared);
    const data = this.idle();
    if (data) this.run(data, endOffset);
    else this.awaitData(endOffset);
    return undefined;
  }

  /** Only the first command after a takeover can have been begun before. */
  private isBegun(asked: FtpTransfer, endOffset: number): boolean {
    const data = this.mayBeBegun ? this.data.find(({ transfer }) => isSame(transfer, asked)) : undefined;
    if (!data?.transfer) return false;
    this.current = begun(data.transfer);
    this.opening(endOffset);
    if (data.isDone) void this.transferred(data, true);
    return true;
  }

  private idle(): FtpDataLayer | undefined {
    return this.data.find(({ transfer, isUsable }) => !transfer && isUsable);
  }

  /** The client has still to open its data connection; whoever takes over waits for it as well. */
  private awaitData(endOffset: number): void {
    const { current: transferring } = this;
    if (!transferring) return;
    this.host.state.transfer = transferring.transfer;
    this.host.use(endOffset);
    void this.port.recorded();
    const giveUp = () => {
      if (this.current === transferring) this.fail(replies.noDataConnection, endOffset);
    };
    transferring.timer = setTimeout(giveUp, OPENING_MS);
    const { activePort } = this.host.state;
    if (activePort !== 0) this.active.open(activePort).catch(giveUp);
  }

  opened(data: FtpDataLayer): void {
    this.host.state.passivePort = 0;
    this.host.state.activePort = 0;
    if (this.current?.prepared) this.run(data, this.host.answered);
  }

  private run(data: FtpDataLayer, endOffset: number): void {
    const { current: transferring } = this;
    if (!transferring?.prepared) return;
    clearTimeout(transferring.timer);
    transferring.transfer = { ...transferring.transfer, connectionId: data.id };
    transferring.isBeginning = true;
    // Its record first: who finds it alone knows what to do, who finds this one's alone would have to give up.
    transferring.begun = Promise.race([this.start(data, transferring), this.gone]).then(
      () => {
        if (this.host.isOver || this.current !== transferring) return;
        transferring.isBeginning = false;
        this.opening(endOffset);
        this.host.advance();
      },
      (error) => {
        if (this.current === transferring) this.fail(failureReply(error), endOffset);
      },
    );
  }

  /** Resolves when the data connection's record has it. Throws as `prepare`. */
  private async start(data: FtpDataLayer, transferring: Transferring): Promise<void> {
    const { prepared } = transferring;
    if (!prepared) return;
    transferring.prepared = undefined;
    const { transfer } = transferring;
    const opened = isOpen(prepared) ? prepared : await open(prepared, transfer, await this.host.area());
    if (this.host.isOver || !this.data.includes(data)) return letGo(opened);
    data.start(transfer, opened);
    await data.recorded();
  }

  /** Nothing comes of it. */
  private fail(answer: Buffer, endOffset: number): void {
    if (this.host.isOver) return;
    this.note(answer);
    this.dropTransfer();
    this.dropIdle();
    this.host.answer(answer, endOffset);
    this.host.advance();
  }

  /** A line of what came of it. */
  private note(answer: Buffer, bytes = 0): void {
    if (!this.current) return;
    const { transfer, beganAtMs } = this.current;
    const { user, verb, path: file } = transfer;
    const ms = Math.round(performance.now() - beganAtMs);
    this.host.log.info({ connection: this.bundle.id, user, verb, file, bytes, ms, code: codeOf(answer) }, "a transfer");
  }

  private opening(endOffset: number): void {
    if (this.current) this.host.state.transfer = this.current.transfer;
    this.host.answer(replies.opening, endOffset);
  }

  private dropTransfer(): void {
    clearTimeout(this.current?.timer);
    if (this.current?.prepared) letGo(this.current.prepared);
    this.current = undefined;
    delete this.host.state.transfer;
  }

  transferred(data: FtpDataLayer, isComplete: boolean, failure = replies.transferBroken): Promise<void> {
    const known = this.ends.get(data.id);
    if (known) return known;
    const { current: transferring } = this;
    if (this.host.isOver || transferring?.transfer.connectionId !== data.id) return Promise.resolve();
    transferring.isOver = true;
    const answer = isComplete ? replies.done : failure;
    const isFree = !this.beReady && !transferring.begun;
    const finish = () => (this.current === transferring ? this.finish(answer, data.bytes) : undefined);
    const recorded = isFree ? finish() : Promise.all([this.readied, transferring.begun]).then(finish);
    const end = Promise.race([recorded, this.gone]).then(() => void this.ends.delete(data.id));
    this.ends.set(data.id, end);
    return end;
  }

  private finish(answer: Buffer, bytes = 0): Promise<void> {
    if (!this.host.isOver) this.note(answer, bytes);
    this.dropTransfer();
    if (this.host.isOver || this.port.ended()) return Promise.resolve();
    this.host.answer(answer);
    queueMicrotask(() => this.host.advance());
    return this.port.recorded();
  }

  /** ABOR. */
  abort(): Buffer {
    const { current: transferring } = this;
    if (!transferring) {
      this.dropIdle();
      return replies.noTransfer;
    }
    const data = this.data.find(({ id }) => id === transferring.transfer.connectionId);
    if (data)
      void data.abort(); // it says that the transfer is broken
    else {
      this.note(replies.transferBroken);
      this.dropTransfer();
      this.dropIdle();
      this.host.answer(replies.transferBroken);
    }
    return replies.aborted;
  }

  // ---- takeover ----

  /** A record says so. */
  unready(transfer: FtpTransfer | undefined): void {
    this.readied = new Promise((resolve) => {
      this.beReady = resolve;
    });
    if (transfer) this.current = begun(transfer);
  }

  ready(): void {
    const { state } = this.host;
    this.mayBeBegun = true;
    this.passive.repeat(state.ports);
    if (state.passivePort !== 0) {
      if (this.idle()) state.passivePort = 0;
      else this.passive.expect(state.passivePort);
    }
    this.beReady?.();
    this.beReady = undefined;
    if (this.current && !this.current.isOver) void this.goOn(this.current.transfer);
  }

  /** A transfer goes on where the records say; they were not written together. */
  private async goOn(transfer: FtpTransfer): Promise<void> {
    await null; // not from within `ready`
    if (this.host.isOver || this.current?.transfer !== transfer) return;
    const data = this.data.find(({ id }) => id === transfer.connectionId);
    if (data?.transfer) return; // it is under way
    if (transfer.connectionId !== "" && !data) {
      // Its data connection died before its first record: nothing of it can have been of use.
      return this.finish(replies.transferBroken);
    }
    if (transfer.connectionId === "" && this.isBegun(transfer, this.host.answered)) return;
    try {
      const prepared = await prepare(transfer, await this.host.area());
      if (this.host.isOver || this.current?.transfer !== transfer) return letGo(prepared);
      this.current.prepared = prepared;
      const idle = this.idle();
      if (data) await this.start(data, this.current);
      else if (idle) this.run(idle, this.host.answered);
      else this.awaitData(this.host.answered);
    } catch (error) {
      if (this.current?.transfer === transfer) this.fail(failureReply(error), this.host.answered);
    }
  }

  /** The control connection is nobody's, or somebody else's. */
  closed(isOver: boolean): void {
    if (isOver) this.note(replies.transferBroken);
    this.dropTransfer();
    this.go();
  }
}

function begun(transfer: FtpTransfer, prepared?: Prepared): Transferring {
  return { transfer, beganAtMs: performance.now(), prepared, timer: undefined };
}
