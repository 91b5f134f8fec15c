import type { PortRange } from "../../../proto/config/index.js";
import { RefusedError } from "../../../proto/errors.js";
import { type Logger, logger } from "../../../proto/log.js";
import type { LayerSection } from "../../../proto/record.js";
import { decodeFtpSection, encodeFtpSection, type FtpSection, type FtpTransfer } from "../../../proto/sections.js";
import type {
  ApplicationDescription,
  ApplicationLayer,
  ConnectionPort,
  OpenObject,
  TakenObject,
} from "../application.js";
import { ANONYMOUS, type Area, type Areas } from "./areas.js";
import { CommandReader, type Line } from "./command.js";
import type { FtpDataLayer, TransferOwner } from "./data_layer.js";
import { failureReply, PathError } from "./failure.js";
import { CHANGES, directoryAt, LOOKS, rename } from "./files.js";
import { chooseFacts, FACTS, type Fact, factsFeature, withoutOptions } from "./listing.js";
import { resolvePath } from "./path.js";
import { featuresReply, pathReply, replies, reply } from "./reply.js";
import { TRANSFERS } from "./transfer.js";
import { type TransferHost, Transfers } from "./transfers.js";

const FAILURES_MAX = 3;
/** Lines that are no commands; who speaks another protocol is sent away. */
const MALFORMED_MAX = 5;
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
  /** A line is being executed. */
  private busy = false;
  private over = false;
  private isReady = true;
  private malformed = 0;
  private requests = 0;
  private readonly transfers: Transfers;

  constructor(
    private readonly port: ConnectionPort,
    inputOffset: number,
    private readonly areas: Areas,
    range: PortRange,
    dataPort: number,
    private readonly log: Pick<Logger, "info"> = logger("ftp"),
  ) {
    this.received = inputOffset;
    this.answered = inputOffset;
    this.reader = new CommandReader(inputOffset);
    this.transfers = new Transfers(this.transferHost(), port, range, dataPort);
  }

  private transferHost(): TransferHost {
    const layer = this;
    return {
      get state() {
        return layer.state;
      },
      get isOver() {
        return layer.over;
      },
      log: this.log,
      get answered() {
        return layer.answered;
      },
      area: () => this.area(),
      use: (endOffset) => {
        this.answered = Math.max(this.answered, endOffset);
        this.port.processed(this.answered);
      },
      answer: (literal, endOffset = this.answered) => this.answer(literal, endOffset),
      advance: () => this.advance(),
    };
  }

  begin(): void {
    this.say(replies.welcome);
  }

  turnAway(): void {
    this.end(replies.tooMany, this.received);
  }

  halfOpen(): boolean {
    return this.state.user === "";
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
      if (!this.transfers.transfer && !this.busy && !this.port.ended()) this.end(replies.timeout, this.received);
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
      if (!this.mayTake(line)) return;
      this.lines.shift();
      this.requests++;
      this.takeLine(line);
    }
    if (this.inputEnded && !this.over && !this.busy && !this.transfers.transfer && !this.port.ended()) {
      this.port.respond({ pieces: [], fin: true, processed: this.received });
    }
  }

  private mayTake(line: Line): boolean {
    const { transfer, isBeginning } = this.transfers;
    if (!transfer) return true;
    return !isBeginning && line.kind === "command" && DURING_TRANSFER.includes(line.verb);
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
        this.transfers.executed();
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
        this.transfers.dropIdle();
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
        return this.transfers.announce(verb, argument);
      case "PORT":
      case "EPRT":
        return this.transfers.nameOwnPort(verb, argument);
      case "TYPE":
        // Everything is sent as it is, as most servers do whatever the type; only the form that nobody uses is refused.
        return /^(A( N)?|I|L ?8)$/i.test(argument) ? replies.ok : replies.badParameter;
      case "MODE":
        return /^S$/i.test(argument) ? replies.ok : replies.badParameter;
      case "STRU":
        return /^F$/i.test(argument) ? replies.ok : replies.badParameter;
      case "ABOR":
        return this.transfers.abort();
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
    this.transfers.dropIdle();
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
    const { id: connection, peer } = this.port;
    this.log.info({ connection, client: peer.address, user: named, code: verdict ? 230 : 530 }, "a login");
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

  private beginTransfer(verb: string, argument: string, endOffset: number): Promise<Buffer | undefined> {
    const { state } = this;
    const isList = TRANSFERS[verb] === "list";
    const target = isList ? withoutOptions(argument) || "." : argument;
    const asked: FtpTransfer = {
      ...{ verb, user: state.user, path: this.path(target), start: isList ? 0 : state.restart, connectionId: "" },
      ...(isList ? { listedAtMs: Date.now(), facts: state.facts } : { listedAtMs: 0, facts: [] }),
    };
    state.restart = 0;
    return this.transfers.begin(asked, endOffset);
  }

  opened(data: FtpDataLayer): void {
    this.transfers.opened(data);
  }

  transferred(data: FtpDataLayer, isComplete: boolean, failure?: Buffer): Promise<void> {
    return this.transfers.transferred(data, isComplete, failure);
  }

  // ---- what else can be said ----

  private status(): Buffer {
    const { user, directory } = this.state;
    const { transfer } = this.transfers;
    return reply(
      211,
      "Status:",
      user === "" ? "Nobody is logged in." : `${user} is logged in, in ${directory}.`,
      transfer ? `${transfer.verb} ${transfer.path} is under way.` : "No transfer is under way.",
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
    this.answer(literal, this.answered);
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

  checkpoint(block: LayerSection[]): void {
    block.push(encodeFtpSection(this.state));
  }

  async unready(section: LayerSection): Promise<void> {
    this.isReady = false;
    this.state = decodeFtpSection(section);
    this.transfers.unready(this.state.transfer);
    if (this.state.user !== "") await this.area();
  }

  ready(): void {
    if (this.isReady) {
      if (this.port.tail() === 0) queueMicrotask(() => !this.over && this.begin()); // nothing was ever said
      return;
    }
    this.isReady = true;
    this.transfers.ready();
    queueMicrotask(() => this.advance());
  }

  undo(): void {
    this.over = true;
    this.transfers.closed(false);
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

  closed(isOver: boolean): void {
    this.over = true;
    this.transfers.closed(isOver);
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
