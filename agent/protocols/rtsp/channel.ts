import { createHash } from "node:crypto";
import type { GroupConfig, PortRange } from "../../../proto/config/index.js";
import { isIPv6 } from "../../../proto/flow.js";
import { logger } from "../../../proto/log.js";
import type { LayerSection } from "../../../proto/record.js";
import { decodeRtspSection, type RtspRange, type RtspSession, type RtspTrack } from "../../../proto/sections.js";
import type { Movie } from "../../media/index.js";
import type { Leads } from "../leads.js";
import type { Description } from "./sdp.js";
import type { Group } from "./transport.js";

const log = logger("rtsp");
/** Until it is tried again to go on with what nobody sends, where the store did not answer. */
const AGAIN_MS = 1_000;
/** The same where somebody else was faster. */
const SOON_MS = 100;
/** For somebody to go on with what nobody here has seen. */
const PATIENCE_MS = 2_000;

/** What happens to a group, as this server has seen it. `revision` is to be given to whoever takes the lead. */
export type Airing = { revision: number } & (
  | { kind: "sent"; by: string; range?: RtspRange }
  /** It was sent to its end. */
  | { kind: "over" }
  /** Nobody sends. */
  | { kind: "free" }
);

/** A session of this server's that has joined. */
export interface Listener {
  /** It plays, and could go on with the range if its sender stopped. */
  couldLead(range: RtspRange): boolean;
  /** @param seen as in Airing @returns whether it does. Rejects where the store does not answer */
  lead(range: RtspRange, seen: number): Promise<boolean>;
  /** The connection of this id sends. */
  sentBy(id: string): void;
  /** Nothing more will come. */
  over(): void;
}

/**
 * A film's multicast group. One session of all the site's leads: what it plays is sent. When it stops before the end another one that plays goes on
 * where it was.
 */
export class Channel {
  private readonly listeners = new Set<Listener>();
  private watching: { close(): void } | undefined;
  private successor: Listener | undefined;
  private later: NodeJS.Timeout | undefined;
  /** What was sent when it was seen last. */
  private last: RtspRange | undefined;

  constructor(
    private readonly config: GroupConfig,
    private readonly ports: PortRange,
    private readonly leads: Leads,
  ) {}

  get address(): string {
    return this.config.group;
  }
  get ttl(): number {
    return this.config.ttl;
  }
  /** Of the lead; as it may be in a key of the store. */
  get name(): string {
    return this.address.replaceAll(/[.:]/g, "-");
  }

  /** Where a track is sent to. @param at its place in the movie */
  groupOf(at: number): Group {
    const rtpPort = this.config.port + 2 * at;
    return { address: this.address, rtpPort, rtcpPort: rtpPort + 1, ttl: this.ttl };
  }

  /** As descriptions have it. */
  placeOf({ tracks }: Movie): NonNullable<Description["multicast"]> {
    return { address: this.address, ttl: this.ttl, ports: tracks.map((_, at) => this.groupOf(at).rtpPort) };
  }

  /** All of a movie's tracks as they are sent: by the same source whoever leads, who says where it begins. */
  tracksOf({ tracks }: Movie): RtspTrack[] {
    const first = this.ports.from + (this.ports.from % 2);
    return tracks.map(({ number }, at) => {
      const { rtpPort, rtcpPort } = this.groupOf(at);
      return {
        ...{ number, ssrc: this.sourceOf(number), sequence: 0, timestamp: 0 },
        ...{ transport: "multicast", rtp: rtpPort, rtcp: rtcpPort },
        ...{ serverRtp: first + 2 * at, serverRtcp: first + 2 * at + 1 },
      };
    });
  }

  get airing(): Airing {
    const holder = this.leads.holder(this.name);
    if (!holder) return { kind: "free", revision: 0 };
    const { id: by, revision } = holder;
    let session: RtspSession | undefined;
    try {
      session = this.sessionIn(holder.sections());
    } catch (error) {
      log.warn({ err: error, connection: by }, "the record of a group's sender cannot be read: it is left alone");
      return { kind: "sent", by, revision };
    }
    if (session?.leads && session.range) return { kind: "sent", by, revision, range: session.range };
    return { kind: session?.ended ? "over" : "free", revision };
  }

  /** Takes the lead; see Leads. */
  take(id: string, seen: number): Promise<boolean> {
    return this.leads.take(this.name, id, seen, (sections) => this.sessionIn(sections)?.leads === true);
  }

  /** The session of this group, where a record with these sections has one. Throws RECORD_INVALID. */
  private sessionIn(sections: LayerSection[]): RtspSession | undefined {
    const section = sections.find(({ layer }) => layer === "rtsp");
    const session = section && decodeRtspSection(section).session;
    const isOurs = session?.objectId === this.config.file && session.tracks[0]?.transport === "multicast";
    return isOurs ? session : undefined;
  }

  join(listener: Listener): void {
    this.listeners.add(listener);
    this.watching ??= this.leads.watch(this.name, () => this.look());
    this.look();
  }

  leave(listener: Listener): void {
    this.listeners.delete(listener);
    if (this.successor === listener) this.successor = undefined;
    if (this.listeners.size > 0) {
      this.look();
      return;
    }
    this.watching?.close();
    this.watching = undefined;
    clearTimeout(this.later);
    this.later = undefined;
    this.last = undefined;
  }

  private look(): void {
    const { airing } = this;
    if (airing.kind === "sent") {
      this.last = airing.range ?? this.last;
      for (const listener of this.listeners) listener.sentBy(airing.by);
      return;
    }
    if (airing.kind === "over") this.over();
    else if (this.last) this.succeed(this.last, airing.revision);
    else this.later ??= setTimeout(() => this.lookOnceMore(), PATIENCE_MS).unref();
  }

  /** It was free when the first one came here, who has never seen what was sent: another server's may go on with it. */
  private lookOnceMore(): void {
    this.later = undefined;
    if (this.airing.kind !== "sent" && !this.last) this.over();
  }

  private over(): void {
    for (const listener of this.listeners) listener.over();
  }

  private succeed(last: RtspRange, seen: number): void {
    if (this.successor) return;
    const next = [...this.listeners].find((listener) => listener.couldLead(last));
    if (!next) {
      this.over(); // what they have is not what was sent
      return;
    }
    this.successor = next;
    const end = () => {
      if (this.successor === next) this.successor = undefined;
    };
    next.lead(last, seen).then(
      (leads) => {
        end();
        // Whoever was faster may have stopped meanwhile.
        if (!leads) setTimeout(() => this.look(), SOON_MS).unref();
      },
      (error) => {
        end();
        log.warn({ err: error, group: this.address }, "nobody sends to a group");
        setTimeout(() => this.look(), AGAIN_MS).unref();
      },
    );
  }

  private sourceOf(track: number): number {
    return createHash("sha256").update(`${this.name} ${track}`).digest().readUInt32BE(0);
  }
}

/** The channels of a service. */
export class Channels {
  private readonly channels: Channel[];

  constructor(
    private readonly configs: readonly GroupConfig[],
    ports: PortRange,
    leads: Leads,
  ) {
    this.channels = configs.map((config) => new Channel(config, ports, leads));
  }

  /** Where those who have come to this VIP can have a file. */
  of(file: string, vip: string): Channel | undefined {
    const at = this.configs.findIndex((one) => one.file === file && isIPv6(one.group) === isIPv6(vip));
    return this.channels[at];
  }
}
