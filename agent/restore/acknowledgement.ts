import type { Flow } from "../../proto/flow.js";
import type { TcpState } from "../../proto/record.js";
import { add, type Sequence } from "../../proto/sequence.js";
import { endpointsOf } from "../connection/host.js";
import type { Segment, SocketImage } from "../native/api.js";

/**
 * Says to a client what it has not been told, or not for certain: all that the rebuilt socket begins behind was taken in, and its window is open. The
 * socket's kernel believes that it was said. The guard clamps it to what is committed, and so knows whether there is more to say.
 * @param echo the client's last timestamp
 */
export function acknowledgement(
  flow: Flow,
  tcp: TcpState,
  image: SocketImage,
  sendNext: Sequence,
  echo: number,
): Segment {
  const { window, tsval, tsecr } = saidBy(tcp, image, echo);
  return {
    ...endpointsOf(flow),
    ...{ seq: sendNext, ack: image.receiveNext, flags: 0x10, window },
    ...(tcp.timestamps ? { timestamps: { value: tsval, echo: tsecr } } : {}),
  };
}

/** What a rebuilt socket's kernel believes to have said, as on the wire; for the guard. @param echo the client's last timestamp */
export function saidBy(
  { windowScaling, receiveScale }: TcpState,
  { window, timestampClock }: SocketImage,
  echo: number,
) {
  return {
    window: Math.min(65_535, window.rcvWnd >> (windowScaling ? receiveScale : 0)),
    // The last bit is cut off where the kernel's clock is read; the client may have seen it (PAWS, RFC 7323 section 5).
    ...{ tsval: add(timestampClock, 1), tsecr: echo },
  };
}
