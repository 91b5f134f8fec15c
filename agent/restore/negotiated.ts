import type { TcpState } from "../../proto/record.js";
import type { SocketImage } from "../native/api.js";

/** What a rebuilt socket has of its handshake. */
export function negotiated({ mss, windowScaling, sendScale, receiveScale, sack, timestamps }: TcpState) {
  return { mss, windowScaling, sendScale, receiveScale, sack, timestamps } satisfies Partial<SocketImage>;
}
