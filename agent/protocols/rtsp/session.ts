import { randomBytes, randomInt } from "node:crypto";
import { wallClockUs } from "../../../proto/clock.js";
import { logger } from "../../../proto/log.js";
import type { RelatedFlow } from "../../../proto/record.js";
import type { RtspLane, RtspRange, RtspSession, RtspTrack } from "../../../proto/sections.js";
import { endAt, type LanePosition, RTP_HEADER, reportLength, startAt, type Track } from "../../media/index.js";
import type { Answer } from "./answer.js";
import type { Broadcast, Broadcaster } from "./broadcast.js";
import { type Film, validate } from "./films.js";
import { Playback, trackOf } from "./playback.js";
import type { Player, PlayerEvents } from "./player.js";
import { formatNptRange, type NptRange, parseNptRange } from "./range.js";
import { formatRtpInfo } from "./rtp_info.js";
import { payloadTypeOf } from "./sdp.js";
import type { ServerSide, Transport } from "./transport.js";
import { formatTransport } from "./transport.js";
import { type Media, trackUrl } from "./url.js";

const log = logger("rtsp");
/** Bytes of a packet behind RTP's header: with it, UDP's and IPv6's within the least MTU there is (RFC 8200 section 5). Fragments do not leave. */
const PAYLOAD_MAX = 1_200;
/** Between a source's reports, microseconds (RFC 3550 section 6.2). */
const REPORT_US = 5_000_000;

/** What a session needs of its connection. */
export interface SessionHost {
  readonly vip: string;
  /** Makes what sends a range over what the session's tracks have agreed on. */
  player(playback: Playback, events: PlayerEvents): Player;
  /** This one sends no more; what it has promised may still be needed. */
  retire(player: Player): void;
  /** Its part in what is sent to the film's group. Throws RefusedError where there is none. */
  broadcast(session: Session): Broadcast;
  /** Nothing more leaves for the group: others may send there. */
  silence(): void;
  /** Everything of a range has been sent. */
  farewell(player: Player): void;
  /** The record is to be written anew. */
  changed(): void;
}

/** What a client has set up, from its first SETUP to its TEARDOWN (RFC 2326 appendix A): tracks of one film, played together. */
export class Session implements Broadcaster {
  private player: Player | undefined;
  private part: Broadcast | undefined;

  /** @param state as it is in records; the session's from now on */
  constructor(
    private readonly host: SessionHost,
    readonly state: RtspSession,
    readonly film: Film,
  ) {
    validate(state, film);
    if (state.range) validate(state.range, film);
    film.pending?.then(
      (validator) => {
        if (this.player) this.player.playback.range.validator = validator;
        host.changed();
      },
      (error: Error) => log.warn({ err: error, object: film.objectId }, "a film's digest cannot be made"),
    );
  }

  /** A new one. */
  static begin(host: SessionHost, film: Film, { base }: Media): Session {
    const { objectId, validator } = film;
    const cname = `${randomBytes(6).toString("hex")}@${host.vip}`;
    const id = randomBytes(8).toString("hex");
    const state = { id, base, objectId, validator, cname, tracks: [], playing: false, ended: false, leads: false };
    return new Session(host, state, film);
  }

  get id(): string {
    return this.state.id;
  }
  get playing(): boolean {
    return this.state.playing;
  }

  /** Which track a request is about: an answer where it cannot be said. */
  trackOf({ track }: Media): Track | Answer {
    const { tracks } = this.film.movie;
    if (track === undefined) return tracks.length === 1 ? (tracks[0] as Track) : { status: 459 };
    return trackOf(this.film, track) ?? { status: 404 };
  }

  /** Channels that other tracks have. */
  channelsBut(number: number): Set<number> {
    const others = this.state.tracks.filter((track) => track.number !== number && track.transport === "interleaved");
    return new Set(others.flatMap(({ rtp, rtcp }) => [rtp, rtcp]));
  }

  /** How it is sent; undefined while no track is set up. */
  get kind(): string | undefined {
    return this.state.tracks[0]?.transport;
  }

  /** How the tracks before this one are sent; undefined where there are none. */
  kindBut(number: number): string | undefined {
    return this.state.tracks.find((track) => track.number !== number)?.transport;
  }

  /** Where it is sent to a group. */
  get broadcast(): Broadcast | undefined {
    if (this.kind === "multicast") this.part ??= this.host.broadcast(this);
    return this.part;
  }

  /** A track is to be sent so. @param ports of the VIP, with udp */
  setUp({ number }: Track, transport: Transport, ports?: ServerSide["serverPorts"]): Answer {
    const [rtp, rtcp] =
      transport.kind === "interleaved"
        ? [transport.rtpChannel, transport.rtcpChannel]
        : [transport.rtpPort, transport.rtcpPort];
    const track: RtspTrack = {
      ...{ number, ssrc: randomInt(2 ** 32), ...randomBegin() },
      ...{ transport: transport.kind, rtp, rtcp, serverRtp: ports?.rtpPort ?? 0, serverRtcp: ports?.rtcpPort ?? 0 },
    };
    return this.take(track, transport, ports ? { serverPorts: ports } : {});
  }

  /** A track is to be had where a group gets it. */
  setUpGroup(track: RtspTrack, transport: Transport): Answer {
    return this.take(track, transport, {});
  }

  private take(track: RtspTrack, transport: Transport, ports: Pick<ServerSide, "serverPorts">): Answer {
    const others = this.state.tracks.filter(({ number }) => number !== track.number);
    this.state.tracks = [...others, track];
    const header = formatTransport(transport, { ssrc: track.ssrc, ...ports });
    return { status: 200, headers: [["Transport", header]], session: this.id };
  }

  // ---- playing ----

  async play(header: string | undefined): Promise<Answer> {
    const { state } = this;
    const asked = header === undefined ? { start: undefined, end: undefined } : parseNptRange(header);
    if (!asked) return { status: 457, session: this.id };
    if (typeof asked.start === "number" && asked.start >= this.film.movie.durationUs) {
      return { status: 457, session: this.id };
    }
    if (state.tracks.length === 0) return { status: 455, session: this.id };
    const goesOn = typeof asked.start !== "number" && !state.ended && state.range !== undefined;
    if (this.broadcast) return this.join(this.broadcast, () => (goesOn ? this.resumed(asked) : this.fresh(asked)));
    if (goesOn && state.playing && asked.end === undefined) return this.playingAnswer();
    await this.halt();
    const range = goesOn ? this.resumed(asked) : this.fresh(asked);
    const unsure = goesOn && this.player?.unsure === true; // paused before it had sent anything here
    if (this.player) this.host.retire(this.player);
    const player = this.use(range);
    player.unsure = unsure;
    const answer = this.playingAnswer(); // where it begins
    const behind = await player.begin();
    return {
      ...answer,
      behind: (offset) => {
        Object.assign(state, { playing: true, ended: false });
        return behind(offset);
      },
      after: () => player.go(),
    };
  }

  /** What others play is not wound for this session; where it is the first it says what is played. */
  private async join(broadcast: Broadcast, range: () => RtspRange): Promise<Answer> {
    const { player, range: sent } = await broadcast.play(range);
    if (player) return { ...this.playingAnswer(), after: () => player.go() };
    const { durationUs } = this.film.movie;
    const reachedUs = sent ? Math.min(durationUs, sent.startUs + Math.max(0, wallClockUs() - sent.wallUs)) : 0;
    const headers = [["Range", formatNptRange(reachedUs, sent?.endUs || durationUs)] as const];
    return { status: 200, headers, session: this.id };
  }

  async pause(): Promise<Answer> {
    const { state } = this;
    if (state.tracks.length === 0) return { status: 455, session: this.id };
    await this.halt();
    const headers = this.player ? [["Range", formatNptRange(this.reachedUs(), undefined)] as const] : [];
    return { status: 200, headers, session: this.id };
  }

  /** Nothing more is sent. */
  async close(): Promise<void> {
    await this.halt();
    if (this.player) this.host.retire(this.player);
    this.player = undefined;
  }

  private async halt(): Promise<void> {
    await this.player?.stop();
    this.state.playing = false;
    if (!this.part) return;
    this.host.silence();
    this.part.leave();
  }

  drop(): void {
    this.host.silence();
    this.player = undefined;
    this.state.range = undefined;
  }

  changed(): void {
    this.host.changed();
  }

  use(range: RtspRange): Player {
    this.state.range = range;
    const player: Player = this.host.player(new Playback(range, this.film), {
      ended: (error) => {
        if (this.player !== player) return;
        if (error) log.warn({ err: error, object: this.film.objectId }, "the rest of a film cannot be sent");
        // What one cannot send to a group another may.
        Object.assign(this.state, { playing: false, ended: !error || !this.part, leads: false });
        this.host.farewell(player);
      },
    });
    this.player = player;
    return player;
  }

  /** Where playing has stopped on the movie's time line, microseconds. */
  private reachedUs(): number {
    const { playback, sent } = this.player as Player;
    const { startUs, endUs } = playback.range;
    return sent.us === Number.POSITIVE_INFINITY ? endUs || this.film.movie.durationUs : startUs + sent.us;
  }

  /** From where it was paused. */
  private resumed({ end }: NptRange): RtspRange {
    const { playback, sent } = this.player as Player;
    const { range } = playback;
    const endUs = end ?? range.endUs;
    const lanes = range.lanes.map((lane, index) => ({
      ...lane,
      ...sent.positions[index],
      endSample: this.endSample(lane.track, endUs),
    }));
    return { ...range, lanes, endUs, wallUs: wallClockUs() - dueUs(sent.us), offset: 0, pieces: [] };
  }

  private fresh({ start, end }: NptRange): RtspRange {
    const { state, film } = this;
    const { startUs, samples } = startAt(film.movie, typeof start === "number" ? start : 0);
    const nowUs = wallClockUs();
    const group = this.broadcast?.channel.tracksOf(film.movie);
    const tracks = group?.map((track) => ({ ...track, ...randomBegin() })) ?? state.tracks;
    const lanes = tracks.map((track): RtspLane => {
      const at = film.movie.tracks.findIndex(({ number }) => number === track.number);
      const before = this.before(track.ssrc);
      const sample = samples[at] ?? 0;
      const isFramed = track.transport === "interleaved";
      return {
        ...{ track: track.number, ssrc: track.ssrc, payloadType: payloadTypeOf(track), sequence: track.sequence },
        ...{ timestamp: before?.timestamp ?? track.timestamp, endSample: this.endSample(track.number, end ?? 0) },
        ...{ rtpChannel: isFramed ? track.rtp : 0, rtcpChannel: isFramed ? track.rtcp : 0 },
        ...{ sample, fragment: 0, packets: before?.packets ?? 0, octets: before?.octets ?? 0, reports: 0 },
      };
    });
    return {
      ...{ objectId: state.objectId, validator: state.validator, cname: state.cname, lanes },
      ...{ startUs, endUs: end ?? 0, wallUs: nowUs, reportUs: REPORT_US, payloadMax: PAYLOAD_MAX },
      ...{ offset: 0, pieces: [] },
    };
  }

  /** What a source has sent in ranges before, or may have, from wherever, and its clock by now: it goes on from there. */
  private before(ssrc: number) {
    const { player } = this;
    const at = player?.playback.range.lanes.findIndex((lane) => lane.ssrc === ssrc) ?? -1;
    if (!player || at < 0) return undefined;
    const { playback } = player;
    const { positions, us } = playback.mark;
    const { packets, octets } = positions[at] as LanePosition;
    const passedUs = Math.max(dueUs(us), player.elapsedUs, 0);
    return { packets, octets, timestamp: playback.stream(at).timestampAt(Math.floor(passedUs)) };
  }

  private endSample(number: number, endUs: number): number {
    const track = trackOf(this.film, number);
    if (!track) return 0;
    return endUs > 0 ? endAt(track, endUs) : track.samples.count;
  }

  private playingAnswer(): Answer {
    const { playback, sent } = this.player as Player;
    const { range } = playback;
    const reached = Math.max(0, dueUs(sent.us));
    const info = range.lanes.map((lane, index) => {
      const stream = playback.stream(index);
      const sequence = stream.sequence(sent.positions[index]?.packets ?? 0);
      return { url: trackUrl(this.state.base, lane.track), sequence, timestamp: stream.timestampAt(reached) };
    });
    const headers = [
      ["Range", formatNptRange(range.startUs + reached, range.endUs || this.film.movie.durationUs)] as const,
      ["RTP-Info", formatRtpInfo(info)] as const,
    ];
    return { status: 200, headers, session: this.id };
  }

  // ---- takeover ----

  /** As records have it. @param told the client has everything of our stream below */
  checkpoint(told: number): RtspSession {
    const range = this.player?.checkpoint(told);
    return { ...this.state, ...(range ? { range } : {}) };
  }

  /** What is sent in datagrams, as far as it is known to be sent. */
  flows(): RelatedFlow[] {
    const { state, player } = this;
    const range = player?.checkpoint(0);
    const report = reportLength(state.cname);
    const { channel } = this.part ?? {};
    const group = channel ? { clientAddress: channel.address } : {};
    const tracks = state.leads ? (channel?.tracksOf(this.film.movie) ?? []) : state.tracks;
    return tracks.flatMap(({ number, ssrc, transport, rtp, rtcp, serverRtp, serverRtcp }) => {
      if (transport !== "udp" && !state.leads) return [];
      const lane = range?.lanes.find((one) => one.ssrc === ssrc);
      const kind = trackOf(this.film, number)?.kind === "h264" ? "video" : "audio";
      const [media, reports] = lane ? [lane.packets * RTP_HEADER + lane.octets, lane.reports * report] : [0, 0];
      const flow = { transport: "udp" as const, ...group };
      return [
        { ...flow, clientPort: rtp, vipPort: serverRtp, name: `${kind} rtp`, bytes: media },
        { ...flow, clientPort: rtcp, vipPort: serverRtcp, name: `${kind} rtcp`, bytes: reports },
      ];
    });
  }

  /** On the second server: what sends the range is made, and does not send yet. */
  restore(): Player | undefined {
    void this.broadcast; // refused where there is no such group
    const { range } = this.state;
    if (!range) return undefined;
    const player = this.use(range);
    player.unsure = true;
    return player;
  }

  /** It is about to go on here: what it sends first is got ready. */
  prepare(): void {
    if (this.state.playing && (!this.broadcast || this.state.leads)) this.player?.prepare?.();
  }

  get current(): Player | undefined {
    return this.player;
  }

  /** Goes on. @param isStored the store has the range as it was restored */
  ready(isStored: boolean): void {
    if (!this.state.playing) return;
    if (this.broadcast) void this.broadcast.resume(this.player);
    else this.player?.go(isStored);
  }
}

/** Nothing more: as if it were over at once. */
function dueUs(us: number): number {
  return us === Number.POSITIVE_INFINITY ? 0 : us;
}

/** Of a source (RFC 3550 section 5.1). */
function randomBegin() {
  return { sequence: randomInt(2 ** 16), timestamp: randomInt(2 ** 32) };
}
