#include "listener.h"

#include "failure.h"
#include "vip_socket.h"

namespace {

constexpr size_t ACCEPTS_A_TURN = 64;
constexpr uint64_t RETRY_MS = 50;

Descriptor openListener(const Address &address, int backlog, uint32_t receiveBuffer) {
  Descriptor opened = openAtVip(address, receiveBuffer, "listen");
  check(listen(opened.get(), backlog), "listen", "listen");
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
