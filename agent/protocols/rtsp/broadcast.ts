import { BatonError } from "../../../proto/errors.js";
import { logger } from "../../../proto/log.js";
import type { RtspRange, RtspSession } from "../../../proto/sections.js";
import type { ConnectionPort } from "../application.js";
import type { Channel, Listener } from "./channel.js";
import type { Player } from "./player.js";

const log = logger("rtsp");
/** Others may be faster, and stop again. */
const TRIES = 3;

/** The session that has a part in it. */
export interface Broadcaster {
  readonly state: RtspSession;
  /** Makes what sends this range from now on. */
  use(range: RtspRange): Player;
  /** It sends nothing, and has sent nothing. */
  drop(): void;
  changed(): void;
}

/**
 * A session's part in what a channel's group is sent: it listens, or it leads, and its server sends. To take the lead is
 *
 *   record: it leads, and this is its range ─► lead taken in the store, from whoever does not lead any more ─► sends
 *
 * and to let go of it is to stop, and a record that says so.
 */
export class Broadcast implements Listener {
  private contest: Promise<unknown> = Promise.resolve();
  private contending = false;
  private isIn = false;

  constructor(
    readonly channel: Channel,
    private readonly session: Broadcaster,
    private readonly port: Pick<ConnectionPort, "id" | "recorded">,
  ) {}

  /**
   * Joins; and leads, where nobody does. @param fresh what would be sent then
   * @returns what is sent, and, where this session begins it, what sends it. Throws a BatonError
   */
  async play(fresh: () => RtspRange): Promise<{ range?: RtspRange; player?: Player }> {
    await this.contest;
    try {
      return await this.enter(fresh);
    } catch (error) {
      this.session.state.playing = false;
      this.leave();
      throw error;
    }
  }

  private async enter(fresh: () => RtspRange): Promise<{ range?: RtspRange; player?: Player }> {
    const { state } = this.session;
    for (let tried = 0; tried < TRIES; tried++) {
      const { airing } = this.channel;
      if (airing.kind === "sent") {
        if (!state.leads) Object.assign(state, { playing: true, ended: false });
        this.join();
        return airing.range ? { range: airing.range } : {};
      }
      this.join();
      const range = fresh();
      const player = await this.take(range, airing.revision);
      if (player) return { range, player };
    }
    throw new BatonError("STORE_CONFLICT", "the lead of a group goes from hand to hand");
  }

  /** On the second server, with a record that may say that it leads. */
  async resume(player: Player | undefined): Promise<void> {
    const { state } = this.session;
    if (!state.leads || !player) {
      this.join();
      return;
    }
    this.contending = true;
    await this.port.recorded();
    const { airing } = this.channel;
    const isOthers = airing.kind === "sent" && airing.by !== this.port.id;
    // Taken once more: whoever believes it to be free, because the former server died on the way to it, has seen too little.
    const isOurs = !isOthers && (await this.channel.take(this.port.id, airing.revision).catch(() => false));
    this.contending = false;
    if (!state.leads) return; // it has stopped meanwhile
    if (isOurs) player.go(true);
    else this.yield();
    this.join();
  }

  /** It neither listens nor leads any more. What it sent has been stopped before. */
  leave(): void {
    this.isIn = false;
    this.session.state.leads = false;
    this.channel.leave(this);
  }

  // ---- as the channel has it ----

  couldLead({ validator, objectId }: RtspRange): boolean {
    const { state } = this.session;
    return state.playing && !state.leads && objectId === state.objectId && validator === state.validator;
  }

  async lead(range: RtspRange, seen: number): Promise<boolean> {
    const player = await this.take(range, seen);
    if (!player) return false;
    log.info({ group: this.channel.address, connection: this.port.id }, "goes on with what a group is sent");
    player.unsure = true;
    player.go(true);
    return true;
  }

  /** Nobody takes a lead from one that has it; if it should happen one stops. */
  sentBy(id: string): void {
    if (!this.session.state.leads || this.contending || id === this.port.id) return;
    log.error(
      { group: this.channel.address, connection: this.port.id, by: id },
      "two have led a group: this one stops",
    );
    this.yield();
  }

  over(): void {
    const { state } = this.session;
    if (!state.playing || state.leads) return;
    Object.assign(state, { playing: false, ended: true });
    this.session.changed();
  }

  private join(): void {
    if (this.isIn) return;
    this.isIn = true;
    this.channel.join(this);
  }

  private take(range: RtspRange, seen: number): Promise<Player | undefined> {
    const taking = this.contend(range, seen);
    this.contest = taking.catch(() => {});
    return taking;
  }

  private async contend(range: RtspRange, seen: number): Promise<Player | undefined> {
    const { session, channel, port } = this;
    const { state } = session;
    const player = session.use(range);
    Object.assign(state, { playing: true, ended: false, leads: true });
    let begins = false;
    this.contending = true;
    try {
      await port.recorded();
      // It may be stopped at any time.
      if (state.leads && (await channel.take(port.id, seen)) && state.leads) {
        await player.begin();
        begins = state.leads;
      }
      return begins ? player : undefined;
    } finally {
      this.contending = false;
      if (!begins && state.leads) this.yield();
    }
  }

  /** Another one leads. */
  private yield(): void {
    this.session.state.leads = false;
    this.session.drop();
    this.session.changed();
  }
}
