import type { Flow } from "../../proto/flow.js";
import type { Sequence } from "../../proto/sequence.js";
import { guardFlag } from "../guard/index.js";
import type { Segment } from "../native/api.js";
import { type ConnectionHost, endpointsOf } from "./host.js";

/** RST and ACK (RFC 9293 section 3.1). */
const RESET = 0x14;

/** An RST that the client takes at once: at exactly the byte it expects (RFC 5961 section 3.2). */
export function exactReset(flow: Flow, seq: Sequence, ack: Sequence): Segment {
  return { ...endpointsOf(flow), seq, ack, flags: RESET, window: 0 };
}

/**
 * Resets the client at exactly what it has of us, as the guard saw it leave. Nothing is said where the guard does not know the flow.
 * @param close closes the socket: the guard has to know ahead that this is meant
 */
export function resetExactly(
  { guard, native }: Pick<ConnectionHost, "guard" | "native">,
  flow: Flow,
  close: () => void,
): void {
  const entry = guard.change(flow, { setFlags: guardFlag.RST_ASKED });
  close();
  if (entry) native.sendSegments([exactReset(flow, entry.sendNext, entry.sentAck)]);
}
