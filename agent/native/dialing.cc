#include "dialing.h"

#include <cstring>

#include "failure.h"
#include "option.h"
#include "vip_socket.h"

Dialing::Dialing(Loop &loop, const Endpoints &ends, uint32_t receiveBuffer, Done done) : done_(std::move(done)) {
  try {
    socket_ = openAtVip(ends.local, receiveBuffer, "dial");
    if (connect(socket_.get(), &ends.remote.any, ends.remote.length()) < 0 && errno != EINPROGRESS)
      throw Failure(errno, "dial", "connect");
  } catch (Failure &failure) {
    failure.subject = ends.text();
    throw;
  }
  watcher_ = Watcher::open(loop, socket_.get(), [this](int) { ready(); }, UV_WRITABLE);
  watcher_->start();
}

void Dialing::close() {
  if (!socket_) return;
  watcher_->close();
  socket_ = Descriptor();
}

void Dialing::ready() {
  watcher_->close();
  int error = getOption(socket_.get(), SOL_SOCKET, SO_ERROR, "dial", "getsockopt(SO_ERROR)");
  Descriptor socket = std::move(socket_);
  Done done = std::move(done_);
  if (error == 0)
    done(std::move(socket), nullptr);
  else
    done(Descriptor(), strerrorname_np(error));
}
