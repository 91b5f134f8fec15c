import type { ExecutionContext } from "ava";
import { countersOf } from "./host.js";

const RESETS = "Tcp.EstabResets";
const TIMEOUTS = "TcpExt.TCPTimeouts";
const RETRANSMISSIONS = "Tcp.RetransSegs";
const PROBES = "TcpExt.TCPLossProbes";

/** A host's kernel as a witness, the client's where no other is named: what its connections noticed since it was started. */
export class Witness {
  private constructor(
    private readonly read: () => Promise<Record<string, number>>,
    private readonly before: Record<string, number>,
  ) {}

  /** @param read the host's counters */
  static async start(read = () => countersOf("client")): Promise<Witness> {
    return new Witness(read, await read());
  }

  /**
   * Asserts that no connection of the host was reset, none timed out, and nothing was repeated but as tail-loss probe (RFC 8985,
   * 7.3). A probe follows an ack that is late by twice the round trip, which two busy cores are enough for; so probes are told,
   * not forbidden.
   */
  async assertUndisturbed(t: ExecutionContext): Promise<void> {
    const after = await this.read();
    const since = (counter: string) => after[counter]! - this.before[counter]!;
    t.is(since(RESETS), 0, RESETS);
    t.is(since(TIMEOUTS), 0, TIMEOUTS);
    t.log(`tail-loss probes: ${since(PROBES)}`);
    t.true(
      since(RETRANSMISSIONS) <= since(PROBES),
      `${since(RETRANSMISSIONS)} retransmissions, ${since(PROBES)} probes`,
    );
  }
}
