import { createHash } from "node:crypto";
import { wallClockUs } from "../../../proto/clock.js";
import type { PortRange } from "../../../proto/config/index.js";
import { BatonError, RefusedError } from "../../../proto/errors.js";
import { logger } from "../../../proto/log.js";
import type { LayerSection, ObjectReference, RelatedFlow } from "../../../proto/record.js";
import { decodeRtspSection, encodeRtspSection, type RtspRange } from "../../../proto/sections.js";
import { MediaError, MICROSECONDS } from "../../media/index.js";
import type {
  ApplicationDescription,
  ApplicationLayer,
  BundlePort,
  ConnectionPort,
  OpenObject,
  ResponsePiece,
  TakenObject,
} from "../application.js";
import type { Answer } from "./answer.js";
import { Broadcast } from "./broadcast.js";
import type { Channels } from "./channel.js";
import { DatagramPlayer } from "./datagram_player.js";
import { type Film, type Films, validate } from "./films.js";
import { FramedPlayer, type Memory, memoryObject } from "./framed_player.js";
import { Login } from "./login.js";
import { MediaFlows } from "./media_flows.js";
import { PastRanges } from "./past_ranges.js";
import { Playback } from "./playback.js";
import type { Player, PlayerEvents } from "./player.js";
import { type Message, MessageReader, type Request } from "./request.js";
import { responseBytes, sessionId } from "./response.js";
import { describe } from "./sdp.js";
import { ServerPorts } from "./server_ports.js";
import { Session, type SessionHost } from "./session.js";
import { TransportChoice } from "./transport_choice.js";
import { type Media, parseUrl, type Subject } from "./url.js";
import type { Users } from "./users.js";

const log = logger("rtsp");
/** A session without a sign of life for so long is over; clients are told, and say something in time (RFC 2326 section 12.37). */
const TIMEOUT_S = 60;
/** They may be late. */
const IDLE_MS = 75_000;
const METHODS = ["OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "SET_PARAMETER"];
const ELSEWHERE = ["ANNOUNCE", "RECORD", "REDIRECT"];
const PUBLIC = ["Public", METHODS.join(", ")] as const;

/** What a service has for its connections. */
interface Parts {
  films: Films;
  channels: Channels;
  memory: Memory;
  /** Of media. */
  relatedPorts: PortRange;
  /** Missing: nobody is asked for a password. */
  users?: Users;
}

/**
 * An RTSP connection (RFC 2326) and its session, which ends with it. Requests are executed one after the other:
 *
 *   request ─► answer: recorded, then sent, and the request is used up with it
 *      └─► PLAY ─► player: pieces of media, each recorded ahead, between the answers
 */
export class RtspLayer implements ApplicationLayer, SessionHost {
  readonly name = "rtsp";
  private readonly reader: MessageReader;
  private readonly messages: Message[] = [];
  private session: Session | undefined;
  private readonly past = new PastRanges();
  private framed = 0;
  /** Films of this server's former process, as its section needs them. */
  private passed: number[] = [];
  private readonly bundle: BundlePort;
  private readonly ports: ServerPorts;
  private readonly transports: TransportChoice;
  private readonly login: Login | undefined;
  /** Of a session whose tracks are sent in datagrams, from its first PLAY on. */
  private media: MediaFlows | undefined;
  /** Client stream offset up to which input has come, and up to which it is answered. */
  private received: number;
  private answered: number;
  private requests = 0;
  private told = 0;
  private inputEnded = false;
  private busy = false;
  private over = false;
  private isReady = true;

  constructor(
    private readonly port: ConnectionPort,
    inputOffset: number,
    private readonly parts: Parts,
  ) {
    if (!port.bundle) throw new RefusedError("no bundle", "an RTSP connection is of no bundle");
    this.bundle = port.bundle;
    this.ports = new ServerPorts(port.bundle, parts.relatedPorts);
    this.transports = new TransportChoice(port, parts.channels, this.ports);
    this.login = parts.users && new Login(parts.users, port.id);
    this.received = inputOffset;
    this.answered = inputOffset;
    this.reader = new MessageReader(inputOffset);
  }

  /** Who says something where media are is there, however little it says here. */
  get idleMs(): number {
    return this.media && this.media.quietMs < IDLE_MS ? Number.POSITIVE_INFINITY : IDLE_MS;
  }

  get vip(): string {
    return this.port.vip.address;
  }

  halfOpen(): boolean {
    return this.session === undefined;
  }

  // ---- input ----

  input(chunk: Buffer): void {
    this.received += chunk.length;
    if (this.port.ended()) {
      this.port.processed(this.received);
      return;
    }
    this.reader.push(chunk);
    for (let message = this.reader.next(); message; message = this.reader.next()) this.messages.push(message);
    this.advance();
  }

  inputEnd(): void {
    this.inputEnded = true;
    this.advance();
  }

  acknowledged(position: number): void {
    this.told = position;
    this.trim();
  }

  /** Not only when a record is written: where nothing is protected none ever is. */
  private trim(): void {
    for (const player of this.framedPlayers) player.trim(this.told);
    this.past.release(this.session?.film);
  }

  private advance(): void {
    while (!this.over && !this.busy && this.isReady && !this.port.ended()) {
      const message = this.messages.shift();
      if (!message) break;
      this.handle(message);
    }
    if (this.inputEnded && !this.over && !this.busy && this.isReady && !this.port.ended()) void this.end();
  }

  private handle(message: Message): void {
    this.media?.heard();
    switch (message.kind) {
      case "bad":
        void this.end({ status: message.status }, message.cseq);
        return;
      case "request":
        this.execute(message.request, message.end);
        return;
      default:
        // A receiver's report, or an answer to nothing: that it came is all there is to it.
        this.answered = message.end;
        this.port.processed(this.answered);
    }
  }

  private execute(request: Request, end: number): void {
    this.busy = true;
    this.requests++;
    this.answerTo(request)
      .catch((error) => failure(error))
      .then((answer) => {
        this.busy = false;
        if (this.over || this.port.ended()) return;
        if (answer.last) return this.end(answer, request.cseq);
        this.answer(answer, request.cseq, end);
        this.advance();
      })
      .catch((error: Error) => this.port.reset(`a request cannot be answered: ${error.message}`));
  }

  private answer(answer: Answer, cseq: number | undefined, end: number, fin = false): void {
    const { status, headers, body, session, behind, after } = answer;
    const literal = responseBytes(
      {
        ...{ status, cseq },
        ...(session === undefined ? {} : { session: { id: session, timeoutSeconds: TIMEOUT_S } }),
        ...(headers ? { headers } : {}),
        ...(body ? { body } : {}),
      },
      Math.floor(wallClockUs() / MICROSECONDS),
    );
    const pieces: ResponsePiece[] = [{ literal }, ...(behind?.(this.port.tail() + literal.length) ?? [])];
    this.answered = Math.max(this.answered, end);
    this.port.respond({ pieces, processed: fin ? this.received : this.answered, fin });
    after?.();
  }

  /** Nothing more is answered. */
  private async end(answer?: Answer, cseq?: number): Promise<void> {
    this.busy = true;
    this.messages.length = 0;
    await this.closeSession();
    if (this.over || this.port.ended()) return;
    if (answer) this.answer(answer, cseq, this.received, true);
    else this.port.respond({ pieces: [], processed: this.received, fin: true });
  }

  // ---- requests ----

  private async answerTo(request: Request): Promise<Answer> {
    const { method, target, headers } = request;
    const subject = parseUrl(target);
    if (ELSEWHERE.includes(method)) return { status: 405, headers: [["Allow", METHODS.join(", ")]] };
    if (!METHODS.includes(method)) return { status: 501, headers: [PUBLIC] };
    const required = [headers.get("require"), headers.get("proxy-require")].filter((one) => one !== undefined);
    if (required.length > 0) return { status: 551, headers: [["Unsupported", required.join(", ")]] };
    if (!subject) return { status: 400 };
    const denied = method === "OPTIONS" ? undefined : await this.login?.deny(request);
    if (denied) return denied;
    const named = headers.get("session");
    const session = named === undefined ? undefined : this.session;
    if (named !== undefined && sessionId(named) !== session?.id) return { status: 454 };
    switch (method) {
      case "OPTIONS":
        return { status: 200, headers: [PUBLIC], ...(session ? { session: session.id } : {}) };
      case "DESCRIBE":
        return subject.kind === "media" ? this.describeFilm(subject, headers.get("accept")) : { status: 404 };
      case "GET_PARAMETER":
      case "SET_PARAMETER":
        return { status: request.body.length > 0 ? 451 : 200, ...(session ? { session: session.id } : {}) };
      case "SETUP":
        return subject.kind === "media" ? this.setUp(subject, headers, session) : { status: 404 };
    }
    if (!session) return { status: 454 };
    const why = this.unfit(subject, session);
    if (why) return { status: why, session: session.id };
    if (method === "PLAY" && this.past.areTooMany) return { status: 453, session: session.id };
    if (method === "PLAY") return session.play(headers.get("range"));
    if (method === "PAUSE") return session.pause();
    await this.closeSession();
    return { status: 200 };
  }

  /** Whether a request about all that a session has is about that. */
  private unfit(subject: Subject, { film, state }: Session): 404 | 460 | undefined {
    if (subject.kind !== "media" || objectOf(subject) !== film.objectId) return 404;
    if (subject.track === undefined) return undefined;
    const [only, ...others] = state.tracks;
    return others.length === 0 && only?.number === subject.track ? undefined : 460;
  }

  private async describeFilm(subject: Media, accept = "application/sdp"): Promise<Answer> {
    if (!/application\/(sdp|\*)|\*\/\*/i.test(accept)) return { status: 406 };
    const film = await this.parts.films.find(subject.segments);
    if (!film) return { status: 404 };
    try {
      const { objectId, validator, movie } = film;
      const title = subject.segments.at(-1) ?? "";
      const multicast = this.parts.channels.of(objectId, this.vip)?.placeOf(movie);
      const description = {
        ...{ id: numberOf(objectId), version: numberOf(validator), title, origin: this.vip },
        ...(multicast ? { multicast } : {}),
      };
      const headers = [
        ["Content-Base", `${subject.base}/`] as const,
        ["Content-Type", "application/sdp"] as const,
        ["Cache-Control", "must-revalidate"] as const,
      ];
      return { status: 200, headers, body: describe(movie, description) };
    } finally {
      film.close();
    }
  }

  private async setUp(subject: Media, headers: Map<string, string>, present: Session | undefined): Promise<Answer> {
    if (!present && this.session) return { status: 455 }; // one session a connection
    const hasPlayed = present && (present.current ?? present.playing);
    if (present && (hasPlayed || objectOf(subject) !== present.film.objectId)) {
      return { status: hasPlayed ? 455 : 459, session: present.id };
    }
    const film = present ? undefined : await this.parts.films.find(subject.segments);
    if (!present && !film) return { status: 404 };
    const session = present ?? Session.begin(this, film as Film, subject);
    const answer = await this.transports.choose(session, subject, headers.get("transport"));
    if (this.over) {
      // It ended meanwhile, and knew of none of this.
      film?.close();
      this.ports.release(session.state.tracks);
    } else if (answer.status === 200) this.session = session;
    else film?.close();
    return answer;
  }

  private async closeSession(): Promise<void> {
    const { session } = this;
    if (!session) return;
    await session.close();
    this.session = undefined;
    this.silence();
    this.ports.release(session.state.tracks);
    if (!this.past.has(session.film)) session.film.close();
  }

  // ---- what a session needs ----

  player(playback: Playback, events: PlayerEvents): Player {
    const { session } = this;
    if (session && session.kind !== "interleaved") {
      this.media = this.flowsOf(session);
      const quiet = () => void this.end();
      return new DatagramPlayer(playback, this.media, this.port, { ended: (error) => events.ended(error), quiet });
    }
    playback.range.offset ||= this.framed;
    return new FramedPlayer(playback, this.port, this.parts.memory, {
      ended: (error) => events.ended(error),
      promise: (pieces) => this.say(pieces),
    });
  }

  /** Those that a session sends to its client stay open; those to a group are of one player. */
  private flowsOf(session: Session): MediaFlows {
    const { channel } = session.broadcast ?? {};
    if (!channel) return this.media ?? new MediaFlows(this.bundle, session.state.tracks);
    this.media?.close();
    return new MediaFlows(this.bundle, channel.tracksOf(session.film.movie), channel);
  }

  broadcast(session: Session): Broadcast {
    const channel = this.parts.channels.of(session.film.objectId, this.vip);
    if (!channel) throw new RefusedError("no such group", `${session.film.objectId} is sent to no group here`);
    return new Broadcast(channel, session, this.port);
  }

  silence(): void {
    this.media?.close();
    this.media = undefined;
  }

  retire(player: Player): void {
    if (!(player instanceof FramedPlayer) || !this.session) return;
    const { film } = this.session;
    this.framed = player.framed;
    this.past.add(player, film);
    validate(player.playback.range, film);
  }

  farewell(player: Player): void {
    if (player instanceof FramedPlayer) this.say([{ literal: player.goodbyes() }]);
    if (player instanceof DatagramPlayer) {
      player.goodbye();
      if (this.session?.broadcast) this.silence();
      this.changed();
    }
  }

  changed(): void {
    if (!this.over) void this.port.recorded();
  }

  private say(pieces: ResponsePiece[]): void {
    if (!this.over && !this.port.ended()) this.port.respond({ pieces, processed: this.answered });
    else for (const piece of pieces) if ("file" in piece) piece.file.close();
  }

  // ---- takeover ----

  checkpoint(block: LayerSection[]): void {
    this.trim();
    const past = this.past.checkpoint(this.told);
    const session = this.session?.checkpoint(this.told);
    const { requests, framed } = this;
    const { user = "", failures = 0 } = this.login ?? {};
    block.push(encodeRtspSection({ requests, framed, past, user, failures, ...(session ? { session } : {}) }));
  }

  async unready(section: LayerSection): Promise<void> {
    this.isReady = false;
    const { requests, framed, session, past, user, failures } = decodeRtspSection(section);
    Object.assign(this, { requests, framed });
    if (this.login) Object.assign(this.login, { user, failures });
    for (const range of past) {
      const film = await this.film(range);
      const player = this.former(range, film);
      this.past.add(player, film);
      await player.remake();
    }
    if (!session) return;
    this.session = new Session(this, session, await this.film(session));
    const player = this.session.restore();
    if (player instanceof FramedPlayer) await player.remake();
  }

  /** What has sent a range before; it sends nothing more. */
  private former(range: RtspRange, film: Film): FramedPlayer {
    validate(range, film);
    try {
      const events = { ended: () => {}, promise: () => {} };
      return new FramedPlayer(new Playback(range, film), this.port, this.parts.memory, events);
    } catch (error) {
      film.close();
      throw error;
    }
  }

  private async film({ objectId, validator }: { objectId: string; validator: string }): Promise<Film> {
    try {
      const fd = this.passed.shift();
      if (fd !== undefined) return await this.parts.films.take(objectId, validator, fd);
      return await this.parts.films.again(objectId, validator);
    } catch (error) {
      if (error instanceof MediaError) throw new RefusedError("object changed", error.message, error);
      throw error;
    }
  }

  async gather(): Promise<void> {
    this.session?.prepare();
  }

  private get framedPlayers(): FramedPlayer[] {
    const current = this.session?.current;
    return [...this.past.players, ...(current instanceof FramedPlayer ? [current] : [])];
  }

  async open(reference: ObjectReference): Promise<OpenObject> {
    for (const player of this.framedPlayers) {
      const object = player.open(reference);
      if (object) return object;
    }
    throw new RefusedError("no such object", `no range has the bytes at ${reference.objectOffset}`);
  }

  sources(): OpenObject[] {
    const films = [...this.past.films, ...(this.session ? [this.session.film] : [])];
    return films.map((film) => film.hold());
  }

  takeSources(fds: number[]): void {
    this.passed = fds;
  }

  async take(_reference: ObjectReference, _offset: number, fd: number): Promise<TakenObject> {
    return { file: memoryObject(this.parts.memory, fd) };
  }

  ready(_position: number, isStored: boolean): void {
    for (const player of this.framedPlayers) player.forget();
    this.isReady = true;
    this.ports.repeat(this.session?.state.tracks ?? []);
    queueMicrotask(() => {
      if (this.over) return;
      this.session?.ready(isStored);
      this.advance();
    });
  }

  undo(): void {
    this.over = true;
  }

  flows(): RelatedFlow[] {
    return this.session?.flows() ?? [];
  }

  gap(): string {
    return [this.session?.state.validator, ...this.past.validators].includes("") ? "digest pending" : "";
  }

  unmovable(): string {
    return this.busy && !this.port.ended() ? "a request is being executed" : "";
  }

  describe(position: number): ApplicationDescription {
    const { requests } = this;
    const object = this.session?.film.objectId ?? "";
    const pieces = this.framedPlayers.flatMap((player) => player.pieceAt(position) ?? []);
    const piece = pieces.findLast(({ offset }) => offset <= position) ?? pieces[0];
    if (!piece) return { object, objectOffset: 0, firstByteSequence: 0, requests };
    const into = Math.min(piece.length, Math.max(0, position - piece.offset));
    return {
      ...{ object, requests },
      objectOffset: piece.objectOffset + into,
      firstByteSequence: this.port.sequence(piece.offset),
    };
  }

  closed(): void {
    this.over = true;
    for (const fd of this.passed.splice(0)) this.parts.memory.closeFd(fd);
    this.media?.close();
    const films = new Set(this.past.films);
    if (this.session) films.add(this.session.film);
    const closed = this.session?.close() ?? Promise.resolve(); // something may be read still
    void closed.then(() => {
      for (const film of films) film.close();
    });
  }
}

function failure(error: unknown): Answer {
  if (error instanceof MediaError) return { status: 415 };
  log.warn({ err: error }, "a request fails");
  return { status: error instanceof BatonError ? 503 : 500 };
}

function objectOf({ segments }: Media): string {
  return segments.map((segment) => `/${segment}`).join("");
}

/** The same for the same text, 48 bits. */
function numberOf(text: string): number {
  return createHash("sha256").update(text).digest().readUIntBE(0, 6);
}
