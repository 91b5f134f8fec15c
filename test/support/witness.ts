import type { ExecutionContext } from "ava";
import { countersOf } from "./host.js";

const RESETS = "Tcp.EstabResets";
const TIMEOUTS = "TcpExt.TCPTimeouts";
const RETRANSMISSIONS = "Tcp.RetransSegs";
const PROBES = "TcpExt.TCPLossProbes";

/** The client's kernel as a witness: what its connections noticed since it was started. */
export class Witness {
  private constructor(private readonly before: Record<string, number>) {}

  static async start(): Promise<Witness> {
    return new Witness(await countersOf("client"));
  }

  /**
   * Asserts that no connection of the client was reset, none timed out, and nothing was repeated but as tail-loss probe (RFC 8985,
   * 7.3). A probe follows an ack that is late by 200 ms, which two busy cores are enough for; so probes are told, not forbidden.
   */
  async assertUndisturbed(t: ExecutionContext): Promise<void> {
    const after = await countersOf("client");
    const since = (counter: string) => after[counter]! - this.before[counter]!;
    t.is(since(RESETS), 0, RESETS);
    t.is(since(TIMEOUTS), 0, TIMEOUTS);
    t.log(`tail-loss probes of the client: ${since(PROBES)}`);
    t.true(
      since(RETRANSMISSIONS) <= since(PROBES),
      `${since(RETRANSMISSIONS)} retransmissions, ${since(PROBES)} probes`,
    );
  }
}
