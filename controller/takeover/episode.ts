import { maglevTable } from "../../bpf/maglev.js";
import type { Takeover } from "../../proto/record.js";
import type { Member, SlotState } from "./appliance.js";

/** How long claimed connections may wait for their clients before the rest of the appliance goes on without holding for them. */
const SETTLE_MS = 2_000;

/**
 * One server's death, from suspicion to the last of its connections:
 *
 *   suspected (HELD) ─► fenced ─► announced (TAKEOVER) ─► every record claimed and settled ─► finished (DOWN)
 */
export class Episode {
  fencedAt: number | undefined;
  takeover: Takeover | undefined;
  revision = 0;
  /** It is being announced or closed. */
  busy = false;
  /** performance.now() before which neither is tried: it failed. */
  notBefore = 0;
  /** It is settled: the appliance's tables are made without it. */
  closing = false;
  /** Its successor is let in while this is open: there was nobody else to take the connections over. */
  yielded = false;
  /** Our own watch has seen the takeover: the index holds every record that the dead server had committed. */
  announced = false;
  survivors: Member[] = [];
  heirs: Uint16Array = new Uint16Array();
  /** Records that were the dead server's, until an heir has said how it went. */
  readonly unsettled = new Set<string>();
  private emptySince: number | undefined;

  constructor(
    readonly dead: Member,
    readonly incarnation: number,
    readonly reason: string,
    /** performance.now() at the suspicion. */
    readonly suspectedAt: number,
    /** Whether the slot is still this incarnation's: its packets are held. A successor that is UP already is left alone. */
    public holds: boolean,
    /** What the slot was before. */
    readonly before: SlotState,
  ) {}

  get id(): string {
    return episodeId(this.dead.id, this.incarnation);
  }

  /** The slot is its successor's from now on. */
  yieldSlot(): void {
    this.holds = false;
    this.yielded = true;
  }

  survive(survivors: Member[]): void {
    this.survivors = [...survivors].sort((a, b) => (a.id < b.id ? -1 : 1));
    this.heirs = maglevTable(this.survivors.map(({ id }) => id));
  }

  /**
   * @param owned records that still name the dead server.
   * @returns whether the dead server's slot can be closed.
   */
  isSettled(owned: number, now: number): boolean {
    if (!this.announced || owned > 0) {
      this.emptySince = undefined;
      return false;
    }
    this.emptySince ??= now;
    return this.unsettled.size === 0 || now - this.emptySince > SETTLE_MS;
  }

  /** Microseconds since the suspicion. */
  since(): number {
    return Math.round((performance.now() - this.suspectedAt) * 1000);
  }
}

/** Names a server's life, as the takeover of it does in the store. */
export function episodeId(server: string, incarnation: number): string {
  return `${server}.${incarnation}`;
}
