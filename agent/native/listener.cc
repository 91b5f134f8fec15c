#include "listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "option.h"

namespace {

constexpr size_t ACCEPTS_A_TURN = 64;
constexpr uint64_t RETRY_MS = 50;

Descriptor openListener(const Address &address, int backlog, uint32_t receiveBuffer) {
  const char *step = "listen";
  bool v6 = address.family() == AF_INET6;
  Descriptor opened(
      check(socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP), step, "socket"));
  int fd = opened.get();
  setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1, step, "setsockopt(SO_REUSEADDR)");
  if (v6) {
    setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, step, "setsockopt(IPV6_V6ONLY)");
    setOption(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1, step, "setsockopt(IPV6_FREEBIND)");
  } else {
    setOption(fd, IPPROTO_IP, IP_FREEBIND, 1, step, "setsockopt(IP_FREEBIND)");
  }
  // Before listen: the window scale of every SYN-ACK follows from them. Accepted sockets inherit all of these.
  if (receiveBuffer > 0) {
    setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, receiveBuffer * 2, step, "setsockopt(SO_RCVBUFFORCE)");
    setOption(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, receiveBuffer, step, "setsockopt(TCP_WINDOW_CLAMP)");
  }
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1, step, "setsockopt(TCP_NODELAY)");
  // Urgent bytes stay in the stream (RFC 6093 section 6): they have sequence numbers, and every offset counts them.
  setOption(fd, SOL_SOCKET, SO_OOBINLINE, 1, step, "setsockopt(SO_OOBINLINE)");
  check(bind(fd, &address.any, address.length()), step, "bind");
  check(listen(fd, backlog), step, "listen");
  return opened;
}

/** Errors of a connection that died in the backlog; the next one may be well (accept(2)). */
bool isOfOneConnection(int number) {
  switch (number) {
  case ECONNABORTED:
  case EINTR:
  case EPROTO:
  case ENETDOWN:
  case ENETUNREACH:
  case EHOSTDOWN:
  case EHOSTUNREACH:
  case ENONET:
  case ENOPROTOOPT:
  case EOPNOTSUPP:
    return true;
  default:
    return false;
  }
}

} // namespace

Listener::Listener(Loop &loop, const Address &address, int backlog, uint32_t receiveBuffer, Accept accept)
    : accept_(std::move(accept)) {
  try {
    socket_ = openListener(address, backlog, receiveBuffer);
    begin(loop);
  } catch (Failure &failure) {
    failure.subject = address.text();
    throw;
  }
}

Listener::Listener(Loop &loop, Descriptor socket, Accept accept)
    : socket_(std::move(socket)), accept_(std::move(accept)) {
  begin(loop);
}

void Listener::begin(Loop &loop) {
  Address bound;
  socklen_t length = sizeof bound.v6;
  check(getsockname(socket_.get(), &bound.any, &length), "listen", "getsockname");
  port_ = bound.port();
  watcher_ = Watcher::open(loop, socket_.get(), [this](int) { acceptSome(); });
  retry_ = Timer::open(loop, [this] { watcher_->start(); });
  watcher_->start();
}

void Listener::close() {
  detach();
}

Descriptor Listener::detach() {
  if (!socket_) return Descriptor();
  watcher_->close();
  retry_->close();
  return std::move(socket_);
}

void Listener::acceptSome() {
  std::vector<Accepted> batch;
  for (size_t tries = 0; tries < ACCEPTS_A_TURN; tries++) {
    Descriptor accepted(accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!accepted) {
      if (isOfOneConnection(errno)) continue;
      if (errno != EAGAIN) {
        // Out of descriptors or memory. The backlog keeps the socket readable: without a pause the loop would spin.
        watcher_->pause();
        retry_->start(RETRY_MS);
      }
      break;
    }
    try {
      Endpoints ends = endpointsOf(accepted.get());
      batch.push_back({accepted.release(), ends});
    } catch (const Failure &) {
      // Reset by its client while it waited: nobody will miss it.
    }
  }
  if (!batch.empty()) accept_(std::move(batch));
}
