import { type Flow, flowKey } from "../../proto/flow.js";
import { logger } from "../../proto/log.js";
import { type Adopt, flowMessage, type TakeoverResult } from "../../proto/rpc/index.js";
import { add } from "../../proto/sequence.js";
import { inBackground } from "../background.js";
import type { ConnectionEntry, ConnectionIndex } from "../connections/index.js";
import type { Appliance, HeldFlow, Member } from "./appliance.js";
import type { Episode } from "./episode.js";
import { flowOf, type ParsedSegment, parseFrame, resetFor, segmentOf } from "./frame.js";
import { heirOf, type Placement } from "./placement.js";

const log = logger("strays");
/** An adoption ends within this time, or the flow is looked at again with its next packet. */
const ADOPT_MS = 5_000;
/** A flow that nobody seems to know is reset only after this long: its record may be on its way, or its server's death. */
const DOUBT_MS = 500;
const DOUBTS_MAX = 10_000;
/** Resets for connections that nobody knows, a second; the rest is dropped. */
const RESETS_PER_SECOND = 100;
/** A flow that was answered with a reset is not answered again for so long. */
const NEGATIVE_MS = 1_000;
const NEGATIVE_MAX = 10_000;

export interface StraysDeps {
  appliance: Appliance;
  placement: Pick<Placement, "moved">;
  index: ConnectionIndex;
  /** Whose slot a record's packets belong to. */
  ownerOf(entry: ConnectionEntry): Member | undefined;
  memberOfSlot(slot: number): Member | undefined;
  /** Whether the index hears of every record: without the store nobody can be said to be unknown. */
  seesRecords(): boolean;
  /** Whether packets that are sent to the server meet an agent. */
  serves(member: Member): boolean;
  /** The dead server of that slot, while it is taken over. */
  episodeOfSlot(slot: number): Episode | undefined;
  adopt(server: string, what: Omit<Adopt, "request">, timeoutMs: number): Promise<TakeoverResult>;
  /** An adoption ended: as if the heir had reported it. */
  adopted(server: string, takeoverId: string, result: TakeoverResult): Promise<void>;
}

/**
 * Packets of connections that have no record: of a dead server's, which an heir may adopt; and those that a server has sent back,
 * because it has no such connection.
 */
export class Strays {
  /** With the takeover that an adoption belongs to, if any. */
  private readonly adopting = new Map<string, Episode | undefined>();
  private readonly doubts = new Set<string>();
  private readonly refused = new Map<string, number>();
  private resets = { second: 0, count: 0 };
  /** Connections without a record that were adopted, refused, or only had their SYN released; packets that were forwarded, answered with a reset, dropped. */
  readonly counters = { adopted: 0, refused: 0, released: 0, forwarded: 0, reset: 0, dropped: 0 };

  constructor(private readonly deps: StraysDeps) {}

  waiting(episode: Episode): boolean {
    for (const other of this.adopting.values()) if (other === episode) return true;
    return false;
  }

  /** A takeover is announced: the index holds every record of the dead server, so a held flow without one has none. */
  look(episode: Episode): void {
    for (const held of this.deps.appliance.held()) this.consider(held, episode);
  }

  /** Packets are being held for flows that had none held before. */
  held(flows: Flow[]): void {
    const unknown = new Set(flows.filter((flow) => !this.deps.index.ofFlow(flow)).map(flowKey));
    if (unknown.size === 0) return;
    for (const held of this.deps.appliance.held()) {
      if (!unknown.has(flowKey(held.flow))) continue;
      const slot = this.deps.appliance.seen(held.flow)?.slot;
      const episode = slot === undefined ? undefined : this.deps.episodeOfSlot(slot);
      if (episode?.announced) this.consider(held, episode);
    }
  }

  private consider(held: HeldFlow, episode: Episode): void {
    const { flow } = held;
    const key = flowKey(flow);
    if (this.adopting.has(key) || this.deps.index.ofFlow(flow)) return;
    const heir = heirOf(flow, episode.survivors, episode.heirs);
    if (!heir) return;
    const seen = this.deps.appliance.seen(flow);
    if (seen && seen.slot !== episode.dead.slot) return;
    const own = [held.first, held.last].flatMap((frame) => segmentOf(flow, frame) ?? []);
    if (own.length === 0) {
      // Of flows that went with it: what a connection is that nobody knows they do not say.
      this.counters.dropped += held.packets;
      this.deps.appliance.drop(flow);
      return;
    }
    const segments = own.filter(({ syn }) => !syn);
    const segment = segments.find((parsed) => this.synOf(flow, parsed)) ?? segments[0];
    if (!segment) {
      // Nothing but SYNs: the handshake begins anew, on the heir.
      this.counters.released++;
      inBackground(log, "releasing a SYN", this.deps.appliance.assign([{ flow, member: heir }]));
      return;
    }
    inBackground(log, "an adoption", this.adopt(flow, segment, heir, episode));
  }

  /**
   * Only a client that has had nothing from us but the SYN-ACK, and that begins its stream with this packet, can be taken in
   * without a record.
   */
  private synOf(flow: Flow, segment: ParsedSegment) {
    const seen = this.deps.appliance.seen(flow);
    return seen?.syn && segment.seq === add(seen.syn.isn, 1) ? { ...seen, syn: seen.syn } : undefined;
  }

  /** @returns whether the heir has it now. */
  private async adopt(
    flow: Flow,
    segment: ParsedSegment,
    heir: Member,
    episode: Episode | undefined,
  ): Promise<boolean> {
    const key = flowKey(flow);
    if (this.adopting.has(key)) return false;
    const seen = this.synOf(flow, segment);
    if (!seen) {
      this.deps.appliance.drop(flow);
      this.doubt(flow, segment);
      return false;
    }
    const { syn } = seen;
    const takeoverId = episode?.id ?? "";
    this.adopting.set(key, episode);
    try {
      const result = await this.deps.adopt(
        heir.id,
        {
          flow: flowMessage(flow),
          clientIsn: syn.isn,
          clientAck: segment.ack,
          mss: syn.mss,
          windowScale: syn.windowScale ?? 255,
          sack: syn.sack,
          timestamps: syn.timestamps,
          clientTsval: seen.tsval,
          clientTsecr: seen.tsecr,
          takeoverId,
          from: episode?.dead.id ?? "",
        },
        ADOPT_MS,
      );
      if (result.result === "ok") this.counters.adopted++;
      else if (result.result === "refused") this.counters.refused++;
      else if (result.epoch === 0) return false; // not begun: it has a record, and so an heir
      await this.deps.adopted(heir.id, takeoverId, result);
      if (result.result === "refused") {
        log.warn({ flow, reason: result.reason }, "refused: the client is reset");
        this.reset(flow, segment);
      }
      return result.result === "ok";
    } catch (error) {
      // The heir died, or has not come to an end yet. The client's next packet asks again.
      log.warn({ flow, heir: heir.id, reason: (error as Error).message }, "an adoption did not end");
      this.deps.appliance.drop(flow);
      return false;
    } finally {
      this.adopting.delete(key);
    }
  }

  /**
   * A server sent these back. Never to the same server again. A frame of a related flow comes under its control connection's name: it is sent
   * to the owner of that, and where that one has sent it back, is asked about by itself.
   */
  bounced(packets: Array<{ flow: Flow; slot: number; frame: Buffer }>): void {
    for (const { flow, slot, frame } of packets) {
      const entry = this.deps.index.ofFlow(flow);
      const owner = entry && this.deps.ownerOf(entry);
      const isServed = owner !== undefined && this.deps.serves(owner);
      if (isServed && owner.slot !== slot) {
        this.redirect(flow, owner, frame);
        continue;
      }
      const segment = parseFrame(frame);
      const own = segment && flowOf(segment);
      const isRelated = own !== undefined && flowKey(own) !== flowKey(flow);
      if (!own || segment.rst || segment.syn || this.deps.index.ofFlow(own) || (isRelated && !isServed)) {
        // Its owner is dying or just ended it: the record or the takeover says the rest, the client repeats.
        this.counters.dropped++;
      } else if (isRelated) {
        this.doubt(own, segment); // it may have died before its first record, whatever became of its control connection
      } else inBackground(log, "asking about a connection", this.unknown(flow, slot, segment, frame));
    }
  }

  /** To the owner, now and from now on. */
  private redirect(flow: Flow, owner: Member, frame: Buffer): void {
    try {
      this.deps.placement.moved([{ flow, member: owner }]);
    } catch (error) {
      log.error({ err: error }, "the packets of a flow cannot be sent to its owner");
    }
    this.forward(owner, frame);
  }

  private forward(owner: Member, frame: Buffer): void {
    owner.mac.copy(frame, 0);
    try {
      this.deps.appliance.send(frame);
      this.counters.forwarded++;
    } catch {
      this.counters.dropped++; // the interface takes nothing now; the client repeats
    }
  }

  /** A server has been asked about a flow that no record names: its owner may have died before the first one. */
  private async unknown(flow: Flow, slot: number, segment: ParsedSegment, frame: Buffer): Promise<void> {
    const asked = this.deps.memberOfSlot(slot);
    if (!this.synOf(flow, segment)) return this.doubt(flow, segment);
    if (!asked || !this.deps.serves(asked) || !(await this.adopt(flow, segment, asked, undefined))) {
      this.counters.dropped++;
      return;
    }
    this.forward(asked, frame);
  }

  /** Not known to anybody now. If that is still so a little later, the client is told. */
  private doubt(flow: Flow, segment: ParsedSegment): void {
    const key = flowKey(flow);
    if (this.doubts.has(key) || this.doubts.size >= DOUBTS_MAX) {
      this.counters.dropped++;
      return;
    }
    this.doubts.add(key);
    setTimeout(() => {
      this.doubts.delete(key);
      if (this.deps.index.ofFlow(flow) || this.adopting.has(key) || !this.deps.seesRecords()) this.counters.dropped++;
      else this.reset(flow, segment);
    }, DOUBT_MS).unref();
  }

  /** Nobody has this connection: an RST made from the packet (RFC 9293 section 3.10.7.1), at a bounded rate. */
  private reset(flow: Flow, segment: ParsedSegment): void {
    const now = performance.now();
    const second = Math.floor(now / 1000);
    if (this.resets.second !== second) this.resets = { second, count: 0 };
    const key = flowKey(flow);
    const answered = this.refused.get(key);
    if (this.resets.count >= RESETS_PER_SECOND || (answered !== undefined && now - answered < NEGATIVE_MS)) {
      this.counters.dropped++;
      return;
    }
    this.resets.count++;
    if (this.refused.size >= NEGATIVE_MAX) this.refused.clear();
    this.refused.set(key, now);
    this.counters.reset++;
    try {
      this.deps.appliance.sendToClient(resetFor(segment));
    } catch (error) {
      log.warn({ flow, reason: (error as Error).message }, "a client cannot be told that nobody has its connection");
    }
  }
}
