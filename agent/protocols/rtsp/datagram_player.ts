import { logger } from "../../../proto/log.js";
import type { RtspRange } from "../../../proto/sections.js";
import type { Item } from "../../media/index.js";
import type { ConnectionPort, ResponsePiece } from "../application.js";
import type { MediaFlows } from "./media_flows.js";
import { Pace, UNTIL_WOKEN } from "./pace.js";
import type { Mark, Playback } from "./playback.js";
import type { Player, PlayerEvents } from "./player.js";
import { RangeClock } from "./range_clock.js";

const log = logger("rtsp");
const STEP_MIN_MS = 5;
const STEP_MAX_MS = 50;
/** Of one step: what has become late is not sent all at once. */
const ITEMS_MAX = 64;
const BYTES_MAX = 2 ** 20;
/** From the last packet to the goodbye, which goes another way and must not be there before. */
const GOODBYE_MS = 200;
/** How far it has got is recorded so often. */
const RECORD_MS = 100;
/** Where that keeps back what is due, as behind a takeover: it catches up with some four times the rate. Not oftener than the store can bear. */
const LATE_RECORD_MS = 40;
const LATE_RECORD_SHARE = 2;
/** Nothing is sent that is due later than so long after what a record says. */
const LIMIT_US = 160_000;
/** What may have been sent without a record, and in each track something that was not. */
const WINDOW_US = 200_000;
/** Without flows for so long there is no point in going on. */
const OPEN_MS = 10_000;
const OPEN_PAUSE_MS = 250;
/** A client that says nothing for so long, neither in reports nor in requests, is gone. */
const QUIET_MS = 75_000;

/**
 * Sends a range in datagrams, each when it is due. A record says how far it has got:
 *
 *     packets   .... recorded ] ....... sent ] .... due ] ...... limit ] .... window ]
 *                             └ another server goes on from here, and sends all up to there in reverse
 *
 * Some of those the client has. They are the same packets once more; but there are receivers that take a packet for a new one where it
 * is the very last that they have got. In reverse it comes behind later ones, and is an old one to all of them.
 */
export class DatagramPlayer implements Player {
  unsure = false;
  private readonly clock: RangeClock;
  private readonly pace = new Pace(() => this.step());
  /** Behind everything that was given to the kernel. */
  sent: Mark;
  /** Behind everything that it has let go. */
  private done: Mark;
  /** The window behind a record of another server's, from when it was known that it will be sent. */
  private first: Promise<Item[]> | undefined;
  /** Taken from the schedule, and not sent. */
  private ready: Item[] = [];
  /** Nothing that is due later is sent. */
  private limitUs: number;
  private recordedAt = performance.now();
  private recording = false;
  /** The last record's time to the store and back. */
  private tookMs = 0;
  /** Everything has been sent, and there is the goodbye to be said. */
  private isLast = false;
  private openingSince: number | undefined;

  constructor(
    readonly playback: Playback,
    private readonly flows: MediaFlows,
    private readonly port: Pick<ConnectionPort, "recorded">,
    private readonly events: PlayerEvents & { quiet(): void },
  ) {
    this.sent = playback.mark;
    this.done = this.sent;
    this.limitUs = this.done.us + LIMIT_US;
    this.clock = new RangeClock(playback.range.wallUs);
  }

  async begin(): Promise<(offset: number) => ResponsePiece[]> {
    await this.flows.open();
    this.flows.heard();
    return () => [];
  }

  prepare(): void {
    void this.flows.open().catch(() => {}); // as in `go`
    this.first = this.window();
    this.first.catch(() => {}); // whoever waits for it says so
  }

  go(isStored = false): void {
    const { us } = this.done;
    this.flows.heard();
    if (this.unsure && us < Number.POSITIVE_INFINITY) this.clock.goOn(us);
    void this.flows.open().catch(() => {}); // meanwhile; whether they are is looked at again
    if (isStored) this.pace.start(0);
    else void this.port.recorded().then(() => this.pace.start(0)); // the store's may lie further back
  }

  async stop(): Promise<void> {
    await this.pace.stop();
    await this.first?.catch(() => {}); // the film must stay open for it
    if (this.ready.length > 0 && this.flows.areOpen) this.sendReady(this.ready.length);
  }

  checkpoint(): RtspRange {
    this.look();
    const { range } = this.playback;
    return { ...range, lanes: range.lanes.map((lane, index) => ({ ...lane, ...this.done.positions[index] })) };
  }

  /** That the sources are gone. */
  goodbye(): void {
    for (const { lane, bytes } of this.playback.goodbyes(this.elapsedUs)) this.send({ lane, kind: "rtcp", bytes });
  }

  private look(): void {
    if (this.flows.areIdle) this.done = this.sent;
  }

  private async step(): Promise<number | undefined> {
    const { flows, playback, events } = this;
    if (flows.quietMs > QUIET_MS) {
      events.quiet();
      return undefined;
    }
    if (!flows.areOpen) return this.open();
    this.look();
    try {
      if (this.ready.length === 0) await this.collect();
    } catch (error) {
      events.ended(error as Error);
      return undefined;
    }
    if (!flows.areOpen) return STEP_MIN_MS; // it stands still since a moment ago
    this.sendReady(ITEMS_MAX);
    this.record();
    if (this.ready.length > 0 || !playback.ended) return this.pauseMs();
    if (!this.isLast) {
      this.isLast = true;
      return GOODBYE_MS;
    }
    events.ended();
    return undefined;
  }

  private async collect(): Promise<void> {
    const { playback } = this;
    if (!this.unsure) {
      const untilUs = Math.min(this.elapsedUs, this.limitUs);
      this.ready = await playback.collect(untilUs, BYTES_MAX, ITEMS_MAX);
      return;
    }
    const items = await (this.first ?? this.window());
    this.first = undefined;
    this.unsure = false;
    this.ready = items.reverse();
  }

  private window(): Promise<Item[]> {
    return this.playback.collect(this.done.us + WINDOW_US, Number.POSITIVE_INFINITY);
  }

  private async open(): Promise<number | undefined> {
    const now = performance.now();
    const since = this.openingSince ?? now;
    this.openingSince = since;
    try {
      await this.flows.open();
      this.openingSince = undefined;
      if (this.flows.areOpen) return 0;
      void this.flows.thawed().then(() => this.pace.wake());
      return UNTIL_WOKEN;
    } catch (error) {
      log.warn({ err: error }, "no flow of datagrams");
      if (now - since < OPEN_MS) return OPEN_PAUSE_MS;
      this.events.ended(error as Error);
      return undefined;
    }
  }

  private sendReady(max: number): void {
    for (const item of this.ready.splice(0, max)) this.send(item);
    if (this.ready.length === 0) this.sent = this.playback.mark;
  }

  private send({ lane, kind, bytes }: Pick<Item, "lane" | "kind" | "bytes">): void {
    const track = this.playback.range.lanes[lane]?.track;
    if (track !== undefined) this.flows.send(track, kind, bytes);
  }

  get elapsedUs(): number {
    return this.clock.elapsedUs;
  }

  private pauseMs(): number {
    const { nextUs } = this.playback;
    if (this.ready.length > 0) return STEP_MIN_MS;
    if (this.isKeptBack) return this.pauseToRecordMs();
    const ms = nextUs === undefined ? 0 : Math.ceil((nextUs - this.elapsedUs) / 1_000);
    return Math.min(STEP_MAX_MS, Math.max(STEP_MIN_MS, ms));
  }

  /** Nothing more may be sent before the next record is there. */
  private pauseToRecordMs(): number {
    if (this.recording) return UNTIL_WOKEN;
    return Math.max(STEP_MIN_MS, this.recordedAt + this.recordMs - performance.now());
  }

  private get recordMs(): number {
    return this.isKeptBack ? Math.max(LATE_RECORD_MS, LATE_RECORD_SHARE * this.tookMs) : RECORD_MS;
  }

  /** Something is due, and only a record is missing. */
  private get isKeptBack(): boolean {
    const { nextUs } = this.playback;
    return nextUs !== undefined && nextUs > this.limitUs && nextUs <= this.elapsedUs;
  }

  private record(): void {
    const now = performance.now();
    if (this.recording || now - this.recordedAt < this.recordMs) return;
    this.recording = true;
    const limitUs = this.done.us + LIMIT_US; // what is written is this, or later
    void this.port.recorded().then(() => {
      this.recording = false;
      this.recordedAt = now;
      this.tookMs = performance.now() - now;
      this.limitUs = Math.max(this.limitUs, limitUs);
      this.pace.wake();
    });
  }
}
