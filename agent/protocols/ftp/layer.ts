import type { PortRange } from "../../../proto/config/index.js";
import { RefusedError } from "../../../proto/errors.js";
import { logger } from "../../../proto/log.js";
import type { LayerSection } from "../../../proto/record.js";
import { decodeFtpSection, encodeFtpSection, type FtpSection, type FtpTransfer } from "../../../proto/sections.js";
import type {
  ApplicationDescription,
  ApplicationLayer,
  ConnectionPort,
  OpenObject,
  TakenObject,
} from "../application.js";
import { ActivePort } from "./active.js";
import { ANONYMOUS, type Area, type Areas } from "./areas.js";
import { CommandReader, type Line } from "./command.js";
import type { FtpDataLayer, TransferOwner } from "./data_layer.js";
import { failureReply, PathError } from "./failure.js";
import { CHANGES, directoryAt, LOOKS, rename } from "./files.js";
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
import { chooseFacts, FACTS, type Fact, factsFeature, withoutOptions } from "./listing.js";
import { PassivePorts } from "./passive.js";
import { resolvePath } from "./path.js";
import { featuresReply, pathReply, replies, reply } from "./reply.js";
import { isSame, letGo, type Prepared, prepare, TRANSFERS } from "./transfer.js";

const log = logger("ftp");
const FAILURES_MAX = 3;
/** Lines that are no commands; who speaks another protocol is sent away. */
const MALFORMED_MAX = 5;
/** For a data connection that was announced, milliseconds. */
const OPENING_MS = 30_000;
/** A client that types, or looks at what it has got. */
const IDLE_MS = 300_000;
/** One that has not logged in. */
const LOGIN_MS = 60_000;

const ALIASES: Record<string, string> = { XPWD: "PWD", XCWD: "CWD", XCUP: "CDUP", XMKD: "MKD", XRMD: "RMD" };
/** What may be said while a transfer is under way (RFC 959 section 4.1.3); the others wait for its end. */
const DURING_TRANSFER = ["ABOR", "STAT", "NOOP"];
/** What may be said before logging in. */
const WITHOUT_LOGIN = [
  "USER",
  "PASS",
  "ACCT",
  "QUIT",
  "FEAT",
  "SYST",
  "HELP",
  "NOOP",
  "OPTS",
  "CLNT",
  "AUTH",
  "PBSZ",
  "PROT",
  "REIN",
];
const FEATURES = ["EPRT", "EPSV", "MDTM", "SIZE", "REST STREAM", "TVFS", "UTF8", "PASV"];

/** A transfer whose command has come. */
interface Transferring {
  transfer: FtpTransfer;
  /** Until its data connection has it. */
  prepared: Prepared | undefined;
  timer: NodeJS.Timeout | undefined;
  /** Resolves when 150 is said. */
  begun?: Promise<void>;
  /** What came of it is known, and is about to be said. */
  isOver?: boolean;
}

/**
 * The control connection of an FTP session (RFC 959, 2389, 2428, 3659). Commands are executed one after the other:
 *
 *   line ─► login ─► command ─► reply: recorded, then sent, and the line is used up with it
 *                       └─► transfer: prepared ─► data connection ─► 150 ─► all of it at its place ─► 226
 *
 * A command that changes something is recorded as begun before it is: whoever finds that in a record executes it again, and takes
 * what is done already for its success.
 */
export class FtpLayer implements ApplicationLayer, TransferOwner {
  readonly name = "ftp";
  get idleMs(): number {
    return this.state.user === "" ? LOGIN_MS : IDLE_MS;
  }

  private state: FtpSection = freshState();
  private readonly reader: CommandReader;
  private readonly lines: Line[] = [];
  /** Client stream offset up to which input has come, and up to which lines are answered. */
  private received: number;
  private answered: number;
  private inputEnded = false;
  /** A transfer may have a data connection that has heard of it before this connection's record did. */
  private mayBeBegun = false;
  /** A line is being executed. */
  private busy = false;
  private over = false;
  private isReady = true;
  private malformed = 0;
  private requests = 0;
  private transferring: Transferring | undefined;
  /** Ends of transfers, by data connection. */
  private readonly ends = new Map<string, Promise<void>>();
  private readonly gone: Promise<void>;
  private go!: () => void;
  private readonly passive: PassivePorts;
  private readonly active: ActivePort;

  constructor(
    private readonly port: ConnectionPort,
    inputOffset: number,
    private readonly areas: Areas,
    range: PortRange,
    dataPort: number,
  ) {
    if (!port.bundle) throw new RefusedError("no bundle", "an FTP connection is of no bundle");
    this.received = inputOffset;
    this.answered = inputOffset;
    this.reader = new CommandReader(inputOffset);
    this.passive = new PassivePorts(port.bundle, range);
    this.active = new ActivePort(port.bundle, dataPort);
    this.gone = new Promise((resolve) => {
      this.go = resolve;
    });
  }

  begin(): void {
    this.say(replies.welcome);
  }

  // ---- input ----

  input(chunk: Buffer): void {
    this.received += chunk.length;
    if (this.port.ended()) {
      this.port.processed(this.received);
      return;
    }
    for (const line of this.reader.read(chunk)) this.lines.push(line);
    this.advance();
  }

  inputEnd(isLate = false): void {
    if (isLate) {
      if (!this.transferring && !this.busy && !this.port.ended()) this.end(replies.timeout, this.received);
      return;
    }
    this.inputEnded = true;
    this.advance();
  }

  acknowledged(): void {}

  private advance(): void {
    while (!this.over && !this.busy && this.isReady && !this.port.ended()) {
      const line = this.lines[0];
      if (!line) break;
      if (this.transferring && !(line.kind === "command" && DURING_TRANSFER.includes(line.verb))) return;
      this.lines.shift();
      this.requests++;
      this.takeLine(line);
    }
    if (this.inputEnded && !this.over && !this.busy && !this.transferring && !this.port.ended()) {
      this.port.respond({ pieces: [], fin: true, processed: this.received });
    }
  }

  private takeLine(line: Line): void {
    if (line.kind !== "command") {
      const answer = line.kind === "malformed" ? replies.unreadable : replies.tooLong;
      if (line.kind === "endless" || ++this.malformed >= MALFORMED_MAX) this.end(answer, this.received);
      else this.answer(answer, line.endOffset);
      return;
    }
    const verb = ALIASES[line.verb] ?? line.verb;
    this.malformed = 0;
    this.busy = true;
    this.execute(verb, line.argument, line.endOffset)
      .catch((error) => failureReply(error))
      .then((answer) => {
        this.busy = false;
        this.mayBeBegun = false;
        if (this.over) return;
        if (answer) this.answer(answer, line.endOffset);
        this.advance();
      });
  }

  /** @returns undefined where the reply comes from elsewhere */
  private async execute(verb: string, argument: string, endOffset: number): Promise<Buffer | undefined> {
    if (this.state.user === "" && !WITHOUT_LOGIN.includes(verb)) return replies.notLoggedIn;
    if (this.state.renameFrom !== "" && verb !== "RNTO") this.state.renameFrom = "";
    if (TRANSFERS[verb]) return this.beginTransfer(verb, argument, endOffset);
    if (this.state.restart !== 0 && verb !== "REST" && !["PASV", "EPSV", "TYPE"].includes(verb)) this.state.restart = 0;
    const look = LOOKS[verb];
    if (look) return look(await this.area(), this.path(argument), this.state.facts as Fact[]);
    if (CHANGES[verb]) return this.change(verb, argument);
    return this.sessionCommand(verb, argument.trim(), endOffset);
  }

  private async sessionCommand(verb: string, argument: string, endOffset: number): Promise<Buffer | undefined> {
    const { state } = this;
    switch (verb) {
      case "USER":
        return this.nameUser(argument);
      case "PASS":
        return this.login(argument, endOffset);
      case "REIN":
        this.dropIdle();
        this.state = { ...freshState(), failures: state.failures, ports: state.ports };
        return replies.welcome;
      case "QUIT":
        this.end(replies.goodbye, this.received);
        return undefined;
      case "PWD":
        return pathReply(state.directory, "is the current directory.");
      case "CWD":
      case "CDUP":
        state.directory = await directoryAt(await this.area(), this.path(verb === "CDUP" ? ".." : argument));
        return replies.fileDone;
      case "RNFR": {
        const path = this.path(argument);
        await (await this.area()).root.stat(path);
        state.renameFrom = path;
        return replies.moreNeeded;
      }
      case "RNTO":
        return this.renameTo(argument);
      case "REST":
        if (!/^\d{1,15}$/.test(argument)) return replies.badArgument;
        state.restart = Number(argument);
        return replies.restarting;
      case "PASV":
      case "EPSV":
        return this.announce(verb, argument);
      case "PORT":
      case "EPRT":
        return this.nameOwnPort(verb, argument);
      case "TYPE":
        // Everything is sent as it is, as most servers do whatever the type; only the form that nobody uses is refused.
        return /^(A( N)?|I|L ?8)$/i.test(argument) ? replies.ok : replies.badParameter;
      case "MODE":
        return /^S$/i.test(argument) ? replies.ok : replies.badParameter;
      case "STRU":
        return /^F$/i.test(argument) ? replies.ok : replies.badParameter;
      case "ABOR":
        return this.abort();
      case "STAT":
        return argument === "" ? this.status() : this.statusOf(argument);
      case "FEAT":
        return featuresReply([...FEATURES, factsFeature(state.facts as Fact[])]);
      case "OPTS":
        return this.options(argument);
      case "SYST":
        return replies.system;
      case "HELP":
        return replies.help;
      case "NOOP":
      case "CLNT":
        return replies.ok;
      case "ACCT":
      case "ALLO":
        return replies.superfluous;
      // RFC 2228: there is no security exchange here, and no protection to be agreed on.
      case "AUTH":
        return reply(504, "No security mechanism is known here.");
      case "PBSZ":
      case "PROT":
      case "CCC":
      case "ADAT":
        return reply(503, "There was no security exchange.");
      default:
        return replies.notImplemented;
    }
  }

  // ---- logging in ----

  private nameUser(argument: string): Buffer {
    const { failures, ports } = this.state;
    if (argument === "" || Buffer.byteLength(argument) > 64) return replies.badArgument;
    this.dropIdle();
    this.state = { ...freshState(), failures, ports, named: argument };
    return this.areas.isAnonymous(argument) ? replies.anonymousPassword : replies.passwordNeeded;
  }

  private async login(password: string, endOffset: number): Promise<Buffer | undefined> {
    const { state } = this;
    const { named } = state;
    if (named === "") return replies.badSequence;
    const isAnonymous = this.areas.isAnonymous(named);
    const verdict = isAnonymous || (await this.areas.verify(named, password));
    if (verdict === "busy") return replies.tooMany;
    if (verdict) {
      const user = isAnonymous ? ANONYMOUS : named;
      await this.areas.of(user);
      Object.assign(state, { user, named: "", failures: 0 });
      return replies.loggedIn;
    }
    state.failures++;
    state.named = "";
    if (state.failures < FAILURES_MAX) return replies.loginFailed;
    this.end(replies.loginFailed, endOffset);
    return undefined;
  }

  // ---- files ----

  private area(): Promise<Area> {
    return this.areas.of(this.state.user);
  }

  private path(argument: string): string {
    const path = argument === "" ? undefined : resolvePath(this.state.directory, argument);
    if (path === undefined) throw new PathError(argument);
    return path;
  }

  private async change(verb: string, argument: string): Promise<Buffer> {
    const path = this.path(argument);
    const area = await this.area();
    return this.once((again) => (CHANGES[verb] as (typeof CHANGES)[string])(area, path, again));
  }

  private async renameTo(argument: string): Promise<Buffer> {
    const { renameFrom } = this.state;
    if (renameFrom === "") return replies.badSequence;
    const to = this.path(argument);
    const area = await this.area();
    try {
      return await this.once((again) => rename(area, renameFrom, to, again));
    } finally {
      this.state.renameFrom = "";
    }
  }

  /** Executes what changes something, recorded ahead. @param execute whether it may have been executed before */
  private async once(execute: (again: boolean) => Promise<Buffer>): Promise<Buffer> {
    const again = this.state.begun;
    if (!again) {
      this.state.begun = true;
      await this.port.recorded();
    }
    try {
      return await execute(again);
    } finally {
      this.state.begun = false;
    }
  }

  // ---- transfers ----

  private get data(): FtpDataLayer[] {
    return (this.port.bundle?.related ?? []) as FtpDataLayer[];
  }

  private async announce(verb: string, argument: string): Promise<Buffer> {
    const { state, port, passive } = this;
    const { bundle } = port;
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
    if (!bundle) return replies.noDataConnection;
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
  private nameOwnPort(verb: string, argument: string): Buffer {
    const { peer } = this.port;
    if (this.state.extendedOnly) return replies.badSequence;
    const named = verb === "PORT" ? parsePort(argument) : parseExtendedPort(argument);
    if (named === "protocol") return protocolReply(protocolOf(peer.address));
    if (!named) return replies.badArgument;
    if (!isOwn(named, peer.address))
      return reply(501, "Data goes to your own address, and to a port above 1023, only.");
    this.dropIdle();
    this.state.activePort = named.port;
    return replies.ok;
  }

  /** A data connection that no command has come for is not wanted any more. */
  private dropIdle(): void {
    this.passive.expectNone(this.state.passivePort);
    this.state.passivePort = 0;
    this.state.activePort = 0;
    for (const data of this.data) if (!data.transfer) data.dismiss();
  }

  private async beginTransfer(verb: string, argument: string, endOffset: number): Promise<Buffer | undefined> {
    const { state } = this;
    const isList = TRANSFERS[verb] === "list";
    const target = isList ? withoutOptions(argument) || "." : argument;
    const area = await this.area();
    const asked: FtpTransfer = {
      ...{ verb, user: state.user, path: this.path(target), start: isList ? 0 : state.restart, connectionId: "" },
      ...(isList ? { listedAtMs: Date.now(), facts: state.facts } : { listedAtMs: 0, facts: [] }),
    };
    state.restart = 0;
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
    if (this.over) {
      letGo(prepared);
      return undefined;
    }
    this.transferring = { transfer: asked, prepared, timer: undefined };
    const data = this.idle();
    if (data) this.run(data, endOffset);
    else this.awaitData(endOffset);
    return undefined;
  }

  /** Only the first command after a takeover can have been begun before. */
  private isBegun(asked: FtpTransfer, endOffset: number): boolean {
    const begun = this.mayBeBegun ? this.data.find(({ transfer }) => isSame(transfer, asked)) : undefined;
    if (!begun?.transfer) return false;
    this.transferring = { transfer: begun.transfer, prepared: undefined, timer: undefined };
    this.opening(endOffset);
    if (begun.isDone) void this.transferred(begun, true);
    return true;
  }

  private idle(): FtpDataLayer | undefined {
    return this.data.find(({ transfer, isUsable }) => !transfer && isUsable);
  }

  /** The client has still to open its data connection; whoever takes over waits for it as well. */
  private awaitData(endOffset: number): void {
    const { transferring } = this;
    if (!transferring) return;
    this.state.transfer = transferring.transfer;
    this.answered = Math.max(this.answered, endOffset);
    this.port.processed(this.answered);
    void this.port.recorded();
    const giveUp = () => {
      if (this.transferring !== transferring || this.over) return;
      this.dropTransfer();
      this.dropIdle();
      this.answer(replies.noDataConnection, endOffset);
      this.advance();
    };
    transferring.timer = setTimeout(giveUp, OPENING_MS);
    const { activePort } = this.state;
    if (activePort !== 0) this.active.open(activePort).catch(giveUp);
  }

  opened(data: FtpDataLayer): void {
    this.state.passivePort = 0;
    this.state.activePort = 0;
    if (this.transferring?.prepared) this.run(data, this.answered);
  }

  private run(data: FtpDataLayer, endOffset: number): void {
    const { transferring } = this;
    if (!transferring?.prepared) return;
    clearTimeout(transferring.timer);
    transferring.transfer = { ...transferring.transfer, connectionId: data.id };
    this.answered = Math.max(this.answered, endOffset);
    this.start(data);
    // Its record first: who finds it alone knows what to do, who finds this one's alone would have to give up.
    transferring.begun = Promise.race([data.recorded(), this.gone]).then(() => {
      if (!this.over && this.transferring === transferring) this.opening(endOffset);
    });
  }

  private start(data: FtpDataLayer): void {
    const { transferring } = this;
    if (!transferring?.prepared) return;
    const { transfer, prepared } = transferring;
    transferring.prepared = undefined;
    data.start(transfer, prepared);
  }

  private opening(endOffset: number): void {
    if (this.transferring) this.state.transfer = this.transferring.transfer;
    this.answer(replies.opening, endOffset);
  }

  private dropTransfer(): void {
    clearTimeout(this.transferring?.timer);
    if (this.transferring?.prepared) letGo(this.transferring.prepared);
    this.transferring = undefined;
    delete this.state.transfer;
  }

  transferred(data: FtpDataLayer, isComplete: boolean, failure = replies.transferBroken): Promise<void> {
    const known = this.ends.get(data.id);
    if (known) return known;
    const { transferring } = this;
    if (this.over || transferring?.transfer.connectionId !== data.id) return Promise.resolve();
    transferring.isOver = true;
    const answer = isComplete ? replies.done : failure;
    const ready = this.isReady && !transferring.begun ? undefined : Promise.all([this.readied, transferring.begun]);
    const recorded = ready ? ready.then(() => this.finish(answer)) : this.finish(answer);
    const end = Promise.race([recorded, this.gone]).then(() => void this.ends.delete(data.id));
    this.ends.set(data.id, end);
    return end;
  }

  private finish(answer: Buffer): Promise<void> {
    this.dropTransfer();
    if (this.over || this.port.ended()) return Promise.resolve();
    this.answer(answer, this.answered);
    queueMicrotask(() => this.advance());
    return this.port.recorded();
  }

  private abort(): Buffer {
    const { transferring } = this;
    if (!transferring) {
      this.dropIdle();
      return replies.noTransfer;
    }
    const data = this.data.find(({ id }) => id === transferring.transfer.connectionId);
    if (data)
      void data.abort(); // it says that the transfer is broken
    else {
      this.dropTransfer();
      this.dropIdle();
      this.say(replies.transferBroken);
    }
    return replies.aborted;
  }

  // ---- what else can be said ----

  private status(): Buffer {
    const { user, directory } = this.state;
    const { transferring } = this;
    return reply(
      211,
      "Status:",
      user === "" ? "Nobody is logged in." : `${user} is logged in, in ${directory}.`,
      transferring
        ? `${transferring.transfer.verb} ${transferring.transfer.path} is under way.`
        : "No transfer is under way.",
      "End",
    );
  }

  private async statusOf(argument: string): Promise<Buffer> {
    const { root } = await this.area();
    const path = this.path(withoutOptions(argument));
    const { isDirectory, size } = await root.stat(path);
    return reply(isDirectory ? 212 : 213, `${path} is a ${isDirectory ? "directory" : `file of ${size} bytes`}.`);
  }

  private options(argument: string): Buffer {
    const [what = "", ...rest] = argument.split(" ");
    if (what.toUpperCase() === "UTF8") return replies.ok;
    if (what.toUpperCase() !== "MLST") return replies.badArgument;
    this.state.facts = chooseFacts(rest.join(" "));
    return reply(200, `MLST OPTS ${this.state.facts.map((fact) => `${fact};`).join("")}`);
  }

  // ---- output ----

  /** Says something that is no answer to a line. */
  private say(literal: Buffer): void {
    this.port.respond({ pieces: [{ literal }], processed: this.answered });
  }

  private answer(literal: Buffer, endOffset: number): void {
    this.answered = Math.max(this.answered, endOffset);
    if (!this.port.ended()) this.port.respond({ pieces: [{ literal }], processed: this.answered });
  }

  private end(literal: Buffer, endOffset: number): void {
    this.answered = Math.max(this.answered, endOffset);
    this.lines.length = 0;
    if (!this.port.ended()) this.port.respond({ pieces: [{ literal }], fin: true, processed: this.received });
  }

  // ---- takeover ----

  private readied: Promise<void> = Promise.resolve();
  private beReady: () => void = () => {};

  checkpoint(block: LayerSection[]): void {
    block.push(encodeFtpSection(this.state));
  }

  async unready(section: LayerSection): Promise<void> {
    this.isReady = false;
    this.readied = new Promise((resolve) => {
      this.beReady = resolve;
    });
    this.state = decodeFtpSection(section);
    if (this.state.user !== "") await this.area();
    const { transfer } = this.state;
    if (transfer) this.transferring = { transfer, prepared: undefined, timer: undefined };
  }

  ready(): void {
    if (this.isReady) {
      if (this.port.tail() === 0) queueMicrotask(() => !this.over && this.begin()); // nothing was ever said
      return;
    }
    this.isReady = true;
    this.mayBeBegun = true;
    const { state, passive } = this;
    passive.repeat(state.ports);
    if (state.passivePort !== 0) {
      if (this.idle()) state.passivePort = 0;
      else passive.expect(state.passivePort);
    }
    this.beReady();
    if (this.transferring && !this.transferring.isOver) void this.transferAgain(this.transferring.transfer);
    queueMicrotask(() => this.advance());
  }

  /** A transfer goes on where the records say; they were not written together. */
  private async transferAgain(transfer: FtpTransfer): Promise<void> {
    await null; // not from within `ready`
    if (this.over || this.transferring?.transfer !== transfer) return;
    const data = this.data.find(({ id }) => id === transfer.connectionId);
    if (data?.transfer) return; // it is under way
    if (transfer.connectionId !== "" && !data) {
      // Its data connection died before its first record: nothing of it can have been of use.
      return this.finish(replies.transferBroken);
    }
    if (transfer.connectionId === "" && this.isBegun(transfer, this.answered)) return;
    try {
      const prepared = await prepare(transfer, await this.area());
      if (this.over || this.transferring?.transfer !== transfer) return letGo(prepared);
      this.transferring.prepared = prepared;
      const idle = this.idle();
      if (data) this.start(data);
      else if (idle) this.run(idle, this.answered);
      else this.awaitData(this.answered);
    } catch (error) {
      if (this.over) return;
      this.dropTransfer();
      this.dropIdle();
      this.answer(failureReply(error), this.answered);
      this.advance();
    }
  }

  undo(): void {
    this.over = true;
    this.go();
  }

  open(): Promise<OpenObject> {
    return Promise.reject(new RefusedError("no such object", "a control connection has no objects"));
  }

  take(): Promise<TakenObject> {
    return Promise.reject(new RefusedError("no such object", "a control connection has no objects"));
  }

  describe(): ApplicationDescription {
    return { object: "", objectOffset: 0, firstByteSequence: 0, requests: this.requests };
  }

  unmovable(): string {
    return this.busy ? "a command is being executed" : "";
  }

  closed(): void {
    this.over = true;
    this.dropTransfer();
    this.go();
  }
}

function freshState(): FtpSection {
  return {
    ...{
      user: "",
      named: "",
      failures: 0,
      directory: "/",
      restart: 0,
      renameFrom: "",
      extendedOnly: false,
      activePort: 0,
    },
    ...{ facts: [...FACTS], passivePort: 0, ports: [], begun: false },
  };
}
