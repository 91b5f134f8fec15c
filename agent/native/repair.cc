#include "repair.h"

#include <linux/socket.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "descriptor.h"
#include "info.h"
#include "option.h"

namespace {

// net/tcp_states.h
enum State { ESTABLISHED = 1, FIN_WAIT1 = 4, FIN_WAIT2 = 5, CLOSE_WAIT = 8, LAST_ACK = 9, CLOSING = 11 };

// net/tcp.h: option kinds on the wire, as TCP_REPAIR_OPTIONS names them (RFC 9293, RFC 7323, RFC 2018).
enum Kind { MSS = 2, WINDOW_SCALE = 3, SACK_PERMITTED = 4, TIMESTAMPS = 8 };

// struct tcp_repair_window as of Linux 4.8. The kernel wants this length exactly; a header may grow.
constexpr socklen_t REPAIR_WINDOW_BYTES = 20;
static_assert(offsetof(tcp_repair_window, rcv_wup) + 4 == REPAIR_WINDOW_BYTES);

// Without window scaling the advertised window has 16 bits (RFC 9293 section 3.1).
constexpr uint32_t UNSCALED_WINDOW_MAX = 65535;

void setRepair(int fd, int mode) {
  setOption(fd, IPPROTO_TCP, TCP_REPAIR, mode, "repair", "setsockopt(TCP_REPAIR)");
}

void chooseQueue(int fd, int queue) {
  setOption(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue, "queue", "setsockopt(TCP_REPAIR_QUEUE)");
}

void setReuse(int fd) {
  setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1, "reuse", "setsockopt(SO_REUSEADDR)");
}

void leaveRepair(int fd) {
  setRepair(fd, TCP_REPAIR_OFF_NO_WP);
  setReuse(fd);
}

bool finOfOursIsQueued(uint8_t state) {
  return state == FIN_WAIT1 || state == LAST_ACK || state == CLOSING;
}

/** Behind bytes that are unsent it is unsent itself. */
bool finIsSent(const Image &image) {
  return finOfOursIsQueued(image.state) && image.unsentQueue.empty();
}

/** Room for what is put into the queues. SO_SNDBUF locks the size; SO_BUF_LOCK lets the kernel tune it again. */
void makeRoom(int fd, const Image &image) {
  uint32_t window = image.options.receiveBuffer ? image.options.receiveBuffer : image.window.rcvWnd;
  uint32_t receive = std::max<uint32_t>(window, image.receiveQueue.size());
  // The kernel doubles the value for its own overhead; twice more for small segments' worse ratio.
  setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, static_cast<int>(receive * 2), "buffers", "setsockopt(SO_RCVBUFFORCE)");
  uint32_t clamp = image.windowScaling ? window : std::min(window, UNSCALED_WINDOW_MAX);
  if (clamp > 0) {
    setOption(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, static_cast<int>(clamp), "buffers", "setsockopt(TCP_WINDOW_CLAMP)");
  }
  size_t send = image.sendQueue.size() + image.unsentQueue.size();
  if (send == 0) return;
  setOption(fd, SOL_SOCKET, SO_SNDBUFFORCE, static_cast<int>(send * 2 + 65536), "buffers",
            "setsockopt(SO_SNDBUFFORCE)");
  setOption(fd, SOL_SOCKET, SO_BUF_LOCK, SOCK_RCVBUF_LOCK, "buffers", "setsockopt(SO_BUF_LOCK)");
}

/**
 * The client's MSS. Once more before connect, which sizes segments by it: TCP_REPAIR_OPTIONS alone comes too late for
 * that, and the socket would send segments of 536 bytes until the path's MTU changes (tcp_connect_init,
 * tcp_current_mss).
 */
void setSegmentSize(int fd, const Image &image) {
  if (image.mss > 0) setOption(fd, IPPROTO_TCP, TCP_MAXSEG, image.mss, "mss", "setsockopt(TCP_MAXSEG)");
}

void setSequence(int fd, int queue, uint32_t sequence) {
  chooseQueue(fd, queue);
  check(setsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &sequence, sizeof sequence), "sequence",
        "setsockopt(TCP_QUEUE_SEQ)");
}

uint32_t getSequence(int fd, int queue) {
  chooseQueue(fd, queue);
  return static_cast<uint32_t>(getOption(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, "sequence", "getsockopt(TCP_QUEUE_SEQ)"));
}

/** Only what the handshake agreed on: an option that is set here is used on the wire. */
void setNegotiated(int fd, const Image &image) {
  tcp_repair_opt options[4];
  int count = 0;
  if (image.windowScaling) {
    options[count++] = {WINDOW_SCALE, image.sendScale | static_cast<uint32_t>(image.receiveScale) << 16};
  }
  if (image.sack) options[count++] = {SACK_PERMITTED, 0};
  if (image.timestamps) options[count++] = {TIMESTAMPS, 0};
  if (image.mss > 0) options[count++] = {MSS, image.mss};
  check(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, count * sizeof options[0]), "options",
        "setsockopt(TCP_REPAIR_OPTIONS)");
}

void setClock(int fd, const Image &image) {
  // Rounded up, because the client may have seen the very value (PAWS, RFC 7323 section 5).
  uint32_t clock = image.timestampUsec ? image.timestampClock | 1 : (image.timestampClock + 1) & ~1u;
  check(setsockopt(fd, IPPROTO_TCP, TCP_TIMESTAMP, &clock, sizeof clock), "clock", "setsockopt(TCP_TIMESTAMP)");
}

void setWindow(int fd, const Image &image) {
  tcp_repair_window window{};
  window.snd_wl1 = image.window.sndWl1;
  window.snd_wnd = image.window.sndWnd;
  window.max_window = image.window.maxWindow;
  window.rcv_wnd = image.window.rcvWnd;
  window.rcv_wup = image.window.rcvWup;
  check(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, REPAIR_WINDOW_BYTES), "window",
        "setsockopt(TCP_REPAIR_WINDOW)");
}

void setApplicationOptions(int fd, const Image &image) {
  const auto &o = image.options;
  if (!o.congestion.empty()) {
    check(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, o.congestion.data(), o.congestion.size()), "socket options",
          "setsockopt(TCP_CONGESTION)", o.congestion);
  }
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, o.nodelay, "socket options", "setsockopt(TCP_NODELAY)");
  setOption(fd, SOL_SOCKET, SO_OOBINLINE, 1, "socket options", "setsockopt(SO_OOBINLINE)"); // as the listener's
  setOption(fd, SOL_SOCKET, SO_KEEPALIVE, o.keepalive, "socket options", "setsockopt(SO_KEEPALIVE)");
  if (o.keepIdleS > 0) {
    setOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, o.keepIdleS, "socket options", "setsockopt(TCP_KEEPIDLE)");
  }
  if (o.keepIntervalS > 0) {
    setOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, o.keepIntervalS, "socket options", "setsockopt(TCP_KEEPINTVL)");
  }
  if (o.keepCount > 0) {
    setOption(fd, IPPROTO_TCP, TCP_KEEPCNT, o.keepCount, "socket options", "setsockopt(TCP_KEEPCNT)");
  }
}

/** Appends `bytes` to the chosen repair queue or, outside repair, to the send queue. The kernel takes a page's worth or
 * so a call. */
void fill(int fd, const std::string &bytes, const char *step) {
  for (size_t done = 0; done < bytes.size();) {
    done += check(send(fd, bytes.data() + done, bytes.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL), step, "send");
  }
}

/** All of a queue. Asking for one byte more shows whether it changed since it was measured. */
std::string peek(int fd, int queue, size_t expected, const char *step) {
  chooseQueue(fd, queue);
  std::string bytes(expected + 1, '\0');
  ssize_t length = expected == 0 ? 0 : recv(fd, bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
  check(length, step, "recv(MSG_PEEK)");
  if (static_cast<size_t>(length) != expected) throw Failure(EBUSY, step, "recv(MSG_PEEK)", "the queue changed");
  bytes.resize(expected);
  return bytes;
}

void readOptions(int fd, Image &image) {
  auto &o = image.options;
  const char *step = "socket options";
  o.nodelay = getOption(fd, IPPROTO_TCP, TCP_NODELAY, step, "getsockopt(TCP_NODELAY)");
  o.keepalive = getOption(fd, SOL_SOCKET, SO_KEEPALIVE, step, "getsockopt(SO_KEEPALIVE)");
  o.keepIdleS = getOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, step, "getsockopt(TCP_KEEPIDLE)");
  o.keepIntervalS = getOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, step, "getsockopt(TCP_KEEPINTVL)");
  o.keepCount = getOption(fd, IPPROTO_TCP, TCP_KEEPCNT, step, "getsockopt(TCP_KEEPCNT)");
  o.receiveBuffer = getOption(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, step, "getsockopt(TCP_WINDOW_CLAMP)");
  char name[16] = ""; // TCP_CA_NAME_MAX
  socklen_t length = sizeof name;
  check(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length), step, "getsockopt(TCP_CONGESTION)");
  o.congestion.assign(name, strnlen(name, sizeof name));
}

void readWindow(int fd, Image &image) {
  tcp_repair_window window{};
  socklen_t length = REPAIR_WINDOW_BYTES;
  check(getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, &length), "window", "getsockopt(TCP_REPAIR_WINDOW)");
  image.window = {window.snd_wl1, window.snd_wnd, window.max_window, window.rcv_wnd, window.rcv_wup};
}

void readQueues(int fd, Image &image, Sent sent) {
  int outstanding = 0, unsent = 0, unread = 0;
  check(ioctl(fd, SIOCOUTQ, &outstanding), "queues", "ioctl(SIOCOUTQ)");
  check(ioctl(fd, SIOCOUTQNSD, &unsent), "queues", "ioctl(SIOCOUTQNSD)");
  check(ioctl(fd, SIOCINQ, &unread), "queues", "ioctl(SIOCINQ)");
  image.sendUna = getSequence(fd, TCP_SEND_QUEUE) - static_cast<uint32_t>(outstanding);
  image.receiveNext = getSequence(fd, TCP_RECV_QUEUE);
  // Our FIN takes a sequence number at the end of the queue, but no byte.
  if (finOfOursIsQueued(image.state)) {
    outstanding--;
    if (unsent > 0) unsent--;
  }
  image.receiveQueue = peek(fd, TCP_RECV_QUEUE, unread, "receive queue");
  if (sent == Sent::LEFT_OUT) return;
  std::string queued = peek(fd, TCP_SEND_QUEUE, outstanding, "send queue");
  image.sendQueue = queued.substr(0, outstanding - unsent);
  image.unsentQueue = queued.substr(outstanding - unsent);
}

void readImage(int fd, Image &image, Sent sent) {
  tcp_info info{};
  socklen_t length = sizeof info;
  check(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length), "info", "getsockopt(TCP_INFO)");
  constexpr uint32_t CAPTURABLE =
      1 << ESTABLISHED | 1 << FIN_WAIT1 | 1 << FIN_WAIT2 | 1 << CLOSE_WAIT | 1 << LAST_ACK | 1 << CLOSING;
  if (!(CAPTURABLE >> info.tcpi_state & 1)) {
    throw Failure(ENOTCONN, "state", "getsockopt(TCP_INFO)", "state " + std::to_string(info.tcpi_state));
  }
  image.state = info.tcpi_state;
  image.windowScaling = info.tcpi_options & TCPI_OPT_WSCALE;
  image.sendScale = image.windowScaling ? info.tcpi_snd_wscale : 0;
  image.receiveScale = image.windowScaling ? info.tcpi_rcv_wscale : 0;
  image.sack = info.tcpi_options & TCPI_OPT_SACK;
  image.timestamps = info.tcpi_options & TCPI_OPT_TIMESTAMPS;
  image.mss = getOption(fd, IPPROTO_TCP, TCP_MAXSEG, "mss", "getsockopt(TCP_MAXSEG)");
  image.timestampClock = timestampClockOf(fd);
  image.timestampUsec = image.timestampClock & 1;
  image.ends = endpointsOf(fd);
  readWindow(fd, image);
  readOptions(fd, image);
  readQueues(fd, image, sent);
}

} // namespace

int prepare(const Endpoints &ends) {
  const std::string subject = ends.text();
  bool v6 = ends.local.family() == AF_INET6;
  if (v6 != (ends.remote.family() == AF_INET6)) throw Failure(EAFNOSUPPORT, "address", "socket", subject);
  try {
    Descriptor socket(check(::socket(ends.local.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP),
                            "socket", "socket"));
    int fd = socket.get();
    if (v6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, "socket", "setsockopt(IPV6_V6ONLY)");
    if (v6)
      setOption(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1, "socket", "setsockopt(IPV6_FREEBIND)");
    else
      setOption(fd, IPPROTO_IP, IP_FREEBIND, 1, "socket", "setsockopt(IP_FREEBIND)");
    // SO_REUSEADDR first: repair mode means SK_FORCE_REUSE, which alone may share a port with a listener; setting the
    // option afterwards would lower it to SK_CAN_REUSE (net/core/sock.c).
    setReuse(fd);
    setRepair(fd, TCP_REPAIR_ON);
    check(bind(fd, &ends.local.any, ends.local.length()), "bind", "bind");
    return socket.release();
  } catch (Failure &failure) {
    failure.subject = subject;
    throw;
  }
}

void rebuild(int fd, const Image &image) {
  try {
    makeRoom(fd, image);
    setSegmentSize(fd, image);
    // Sequence numbers can only be set before connect.
    bool finAcknowledged = image.state == FIN_WAIT2;
    setSequence(fd, TCP_RECV_QUEUE, image.receiveNext - static_cast<uint32_t>(image.receiveQueue.size()));
    setSequence(fd, TCP_SEND_QUEUE, image.sendUna - (finAcknowledged ? 1 : 0));
    check(connect(fd, &image.ends.remote.any, image.ends.remote.length()), "connect", "connect");
    setNegotiated(fd, image);
    if (image.timestamps) setClock(fd, image);
    setApplicationOptions(fd, image);
    chooseQueue(fd, TCP_RECV_QUEUE);
    fill(fd, image.receiveQueue, "receive queue");
    chooseQueue(fd, TCP_SEND_QUEUE);
    fill(fd, image.sendQueue, "send queue");
    setWindow(fd, image);
    // In the send queue's repair it counts as sent, as all that lies before it.
    if (finAcknowledged || finIsSent(image)) check(shutdown(fd, SHUT_WR), "fin", "shutdown");
    chooseQueue(fd, TCP_NO_QUEUE);
  } catch (Failure &failure) {
    if (failure.subject.empty()) failure.subject = image.ends.text();
    throw;
  }
}

void activate(int fd, const Image &image) {
  try {
    leaveRepair(fd);
    fill(fd, image.unsentQueue, "unsent queue");
    if (finOfOursIsQueued(image.state) && !finIsSent(image)) check(shutdown(fd, SHUT_WR), "fin", "shutdown");
  } catch (Failure &failure) {
    failure.subject = image.ends.text();
    throw;
  }
}

Image capture(int fd, Sent sent) {
  setRepair(fd, TCP_REPAIR_ON);
  try {
    Image image{};
    readImage(fd, image, sent);
    // In TCP_SEND_QUEUE the kernel would count data as sent that never left (tcp_write_xmit).
    chooseQueue(fd, TCP_NO_QUEUE);
    return image;
  } catch (Failure &) {
    leaveRepair(fd);
    throw;
  }
}

void resume(int fd) {
  leaveRepair(fd);
  // What waits in the send queue goes out now, and not with the next ack, which may never come: __tcp_sock_set_nodelay
  // pushes.
  if (getOption(fd, IPPROTO_TCP, TCP_NODELAY, "nodelay", "getsockopt(TCP_NODELAY)")) {
    setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1, "nodelay", "setsockopt(TCP_NODELAY)");
  }
}

void closeInRepair(int fd) {
  setRepair(fd, TCP_REPAIR_ON);
  ::close(fd);
}

std::vector<Failure> rebuildAll(const std::vector<Rebuild> &items) {
  std::vector<Failure> results;
  results.reserve(items.size());
  for (const Rebuild &item : items) {
    try {
      rebuild(item.fd, item.image);
      activate(item.fd, item.image);
      results.emplace_back(0, "", "");
    } catch (const Failure &failure) {
      results.push_back(failure);
    }
  }
  return results;
}
