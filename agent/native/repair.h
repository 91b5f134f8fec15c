#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "address.h"
#include "failure.h"

/**
 * Taking a TCP connection out of one socket and putting it into another, by the kernel's TCP_REPAIR
 * (net/ipv4/tcp.c, do_tcp_setsockopt; include/uapi/linux/tcp.h).
 *
 *   new server   prepare ─► rebuild ─► activate                 a failure leaves the socket in repair: closeInRepair
 *   old server   capture ─► resume | closeInRepair              a failure of capture has resumed the socket already
 *
 * Inside repair mode a socket is silent: nothing that is done to it sends a segment, not even close(2). It still takes
 * segments in, so the caller sees to it that none arrive between capture and closeInRepair, and none before rebuild has
 * returned (the guard's phases FROZEN and PROBE).
 *
 * Preconditions: CAP_NET_ADMIN in the namespace; plain TCP, never MPTCP. prepare: nobody here has this very connection,
 * an orphan of a dead process included (diag.h removes those), else rebuild fails at "connect" with EADDRNOTAVAIL.
 * capture: states ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING.
 *
 * The queues, in sequence numbers. "ours" is what we send, "theirs" what the client sends:
 *
 *            acknowledged │       sendQueue        │     unsentQueue      │
 *   ours   ───────────────┼────────────────────────┼──────────────────────┼──── a FIN that was asked for comes here
 *                      sendUna                  snd_nxt               write_seq
 *
 *           read already  │      receiveQueue      │
 *   theirs ───────────────┼────────────────────────┼────
 *                    copied_seq               receiveNext (rcv_nxt; behind the client's FIN if that came)
 *
 * The kernel keeps the ends, write_seq and rcv_nxt; an image keeps sendUna and receiveNext:
 *   sendUna = write_seq - SIOCOUTQ, length(sendQueue) = SIOCOUTQ - SIOCOUTQNSD - our FIN if it was sent.
 *
 * Half-closed connections. A FIN of ours is queued as sent (FIN_WAIT1, LAST_ACK, CLOSING), or asked for when the socket
 * leaves repair if bytes before it are unsent; acknowledged (FIN_WAIT2) it is queued as sent and the client's next ack
 * ends that. The client's FIN cannot be given to a new socket: receiveNext lies behind it, the socket acknowledges it,
 * but its state is that of a connection whose client has not finished. Whoever restores such a connection knows that
 * from the record, expects no end of input from the socket and closes it inside repair mode once the client has
 * acknowledged our FIN.
 */
struct Image {
  Endpoints ends;
  uint8_t state; // linux/tcp_states.h
  uint32_t sendUna;
  uint32_t receiveNext;
  uint16_t mss; // the client's, as on its SYN (mss_clamp): timestamps not subtracted
  bool windowScaling;
  uint8_t sendScale;
  uint8_t receiveScale;
  bool sack;
  bool timestamps;
  uint32_t timestampClock; // tsval at the moment of the rebuild
  bool timestampUsec;
  struct {
    uint32_t sndWl1, sndWnd, maxWindow, rcvWnd, rcvWup;
  } window; // struct tcp_repair_window
  std::string receiveQueue;
  std::string sendQueue;
  std::string unsentQueue;
  struct {
    bool nodelay;
    bool keepalive;
    int keepIdleS, keepIntervalS, keepCount; // 0: the system's
    std::string congestion;                  // empty: the system's
    uint32_t receiveBuffer;                  // bytes, bound of the advertised window; 0: as large as rcvWnd
  } options;
};

/** A socket in repair mode, bound to the VIP even while a listener is. Closes what it opened when it fails. */
int prepare(const Endpoints &ends);

/**
 * Makes `fd` (from prepare, used once) the connection of `image`. Silent, and still in repair. A failure leaves it in
 * repair and good for nothing but closeInRepair.
 */
void rebuild(int fd, const Image &image);

/**
 * Leaves repair without a window probe, takes SO_REUSEADDR again (leaving clears it: a later listener would get
 * EADDRINUSE), then sends the unsent queue and asks for the FIN. From the first step on the socket speaks.
 */
void activate(int fd, const Image &image);

/** What of the send queue goes into an image: its bytes, or nothing, where the next owner makes them itself. */
enum class Sent { COPIED, LEFT_OUT };

/** Enters repair and reads everything. Failing, it has left repair again and the connection goes on. */
Image capture(int fd, Sent sent = Sent::COPIED);

/** Leaves repair after capture: the connection goes on as if nothing had been. */
void resume(int fd);

/** Closes without FIN or RST, whatever is queued. `fd` may be in repair mode already. If it fails, `fd` is still open.
 */
void closeInRepair(int fd);

/** One connection of a mass takeover: rebuild + activate. */
struct Rebuild {
  int fd;
  Image image;
};

/** Results in the order of `items`: the failure, or none (number 0). */
std::vector<Failure> rebuildAll(const std::vector<Rebuild> &items);
