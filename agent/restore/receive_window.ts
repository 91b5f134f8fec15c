import type { TcpState } from "../../proto/record.js";

/** The window field has 16 bits (RFC 9293 section 3.1), and a shift count (RFC 7323 section 2). */
const FIELD_MAX = 65_535;

/**
 * The most that any socket of the connection can have advertised, bytes past what it has acknowledged. A rebuilt socket begins with it:
 * a client that has used a window which its server no longer knows (the clamp holds acks back, and a kernel that was out of memory
 * forgets what it had offered) is beyond the window with its acks, and the kernel throws those away (tcp_sequence, net/ipv4/tcp_input.c):
 * neither side would ever hear the other again.
 */
export function widestWindow({ windowScaling, receiveScale }: TcpState): number {
  return FIELD_MAX << (windowScaling ? receiveScale : 0);
}
