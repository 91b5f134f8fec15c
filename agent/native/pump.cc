#include "pump.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "failure.h"
#include "option.h"

namespace {

constexpr int64_t SLICE_BYTES = 1 << 20;   // a connection's share of a turn
constexpr int64_t CHUNK_BYTES = 256 << 10; // of one system call: bounds how long detach waits
constexpr int EVENTS_MAX = 256;
constexpr uint64_t WAKEUP_ID = 0;
constexpr uint64_t SPOOL_BIT = 1ull << 63; // in an event's id: it is of the stream's spool

/** Whether something of the front piece may be sent. */
bool hasWork(const Stream &stream) {
  return !stream.stopped && !stream.failed && stream.writable && !stream.starved && !stream.pieces.empty() &&
         (stream.sent < stream.limit || stream.pieces.front().length == 0);
}

/** Whether the piece behind `front` may leave at once: then `front`'s last segment waits for it. */
bool moreFollows(const Stream &stream, const Piece &front) {
  return stream.pieces.size() > 1 && stream.sent + (front.length - front.done) < stream.limit;
}

ssize_t sendPiece(int fd, Piece &piece, size_t length, bool more) {
  switch (piece.kind) {
  case Piece::LITERAL:
    return send(fd, piece.literal.data() + piece.done, length, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0));
  case Piece::FILE: {
    off_t offset = piece.offset + piece.done;
    if (piece.spool) return piece.spool->send(fd, offset, length, piece.missing);
    ssize_t result = sendfile(fd, piece.fd, &offset, length);
    if (result != 0) return result;
    errno = EIO; // the file is shorter than promised
    return -1;
  }
  case Piece::FIN:
    return shutdown(fd, SHUT_WR) == 0 ? 1 : -1;
  }
  __builtin_unreachable();
}

} // namespace

std::shared_ptr<Stream> Pump::add(int fd, int64_t sendOffset) {
  if (!thread_.joinable()) {
    epoll_.reset(check(epoll_create1(EPOLL_CLOEXEC), "pump", "epoll_create1"));
    wakeup_.reset(check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "pump", "eventfd"));
    epoll_event event{.events = EPOLLIN, .data = {.u64 = WAKEUP_ID}};
    check(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wakeup_.get(), &event), "pump", "epoll_ctl");
    thread_ = std::thread([this] { run(); });
    pthread_setname_np(thread_.native_handle(), "baton-pump");
  }
  std::shared_ptr<Stream> stream;
  {
    std::lock_guard held(lock_);
    stream = std::make_shared<Stream>(nextId_++, fd, sendOffset);
    streams_.emplace(stream->id, stream);
  }
  epoll_event event{.events = EPOLLOUT | EPOLLET, .data = {.u64 = stream->id}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) < 0) {
    int number = errno;
    std::lock_guard held(lock_);
    streams_.erase(stream->id);
    throw Failure(number, "pump", "epoll_ctl");
  }
  return stream;
}

void Pump::append(const std::shared_ptr<Stream> &stream, std::vector<Piece> pieces) {
  std::lock_guard held(stream->lock);
  if (stream->stopped) throw Failure(EBADF, "append", "send");
  for (Piece &piece : pieces) {
    if (stream->ended) throw Failure(EPIPE, "append", "send", "output behind the FIN");
    stream->ended = piece.kind == Piece::FIN;
    stream->pieces.push_back(std::move(piece));
  }
  kick(stream);
}

void Pump::setLimit(const std::shared_ptr<Stream> &stream, int64_t limit) {
  std::lock_guard held(stream->lock);
  stream->limit = std::max(limit, stream->sent);
  kick(stream);
}

int64_t Pump::sentOffset(const std::shared_ptr<Stream> &stream) {
  std::lock_guard held(stream->lock);
  return stream->sent;
}

/** Hands the stream to the thread if there is something to do and it is not there yet. Holds the stream's lock. */
void Pump::kick(const std::shared_ptr<Stream> &stream) {
  if (stream->queued || !hasWork(*stream)) return;
  stream->queued = true;
  bool first;
  {
    std::lock_guard held(lock_);
    first = kicked_.empty();
    kicked_.push_back(stream);
  }
  if (first) wake();
}

void Pump::wake() {
  uint64_t one = 1;
  // A full counter wakes as well.
  [[maybe_unused]] ssize_t ignored = write(wakeup_.get(), &one, sizeof one);
}

void Pump::forget(const std::shared_ptr<Stream> &stream) {
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, stream->fd, nullptr);
  std::lock_guard held(lock_);
  streams_.erase(stream->id);
}

/** Holds the stream's lock, `stopped` is set. */
void Pump::closeOrLeave(Stream &stream) {
  if (stream.busy)
    stream.closeWhenIdle = true;
  else
    ::close(stream.fd);
}

void Pump::close(const std::shared_ptr<Stream> &stream) {
  forget(stream);
  std::lock_guard held(stream->lock);
  stream->stopped = true;
  // From here on the caller may close the file that the pump is about to send from, and another may get its number:
  // what is only now on its way into the kernel must fail there.
  if (stream->busy) shutdown(stream->fd, SHUT_WR);
  closeOrLeave(*stream);
}

void Pump::closeSilently(const std::shared_ptr<Stream> &stream) {
  forget(stream);
  std::lock_guard held(stream->lock);
  // In this order: nothing is begun any more, and what is under way fails in the kernel (tcp_sendmsg without a repair
  // queue).
  stream->stopped = true;
  setOption(stream->fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON, "repair", "setsockopt(TCP_REPAIR)");
  closeOrLeave(*stream);
}

int Pump::detach(const std::shared_ptr<Stream> &stream) {
  forget(stream);
  std::unique_lock held(stream->lock);
  stream->stopped = true;
  stream->idle.wait(held, [&] { return !stream->busy; });
  return stream->fd;
}

void Pump::stop() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard held(lock_);
    stopping_ = true;
  }
  wake();
  thread_.join();
}

void Pump::run() {
  for (;;) {
    wait(!work_.empty());
    {
      std::lock_guard held(lock_);
      if (stopping_) return;
      work_.insert(work_.end(), kicked_.begin(), kicked_.end());
      kicked_.clear();
    }
    // Each stream once, so that events are looked at between rounds.
    for (size_t count = work_.size(); count > 0; count--) {
      std::shared_ptr<Stream> stream = std::move(work_.front());
      work_.pop_front();
      if (turn(stream)) work_.push_back(std::move(stream));
    }
    if (!outcomes_.empty()) report_(std::exchange(outcomes_, {}));
  }
}

void Pump::wait(bool hasWork) {
  epoll_event events[EVENTS_MAX];
  int count = epoll_wait(epoll_.get(), events, EVENTS_MAX, hasWork ? 0 : -1);
  for (int i = 0; i < count; i++) {
    if (events[i].data.u64 != WAKEUP_ID) {
      noteEvent(events[i].data.u64, events[i].events);
      continue;
    }
    uint64_t counter;
    [[maybe_unused]] ssize_t ignored = read(wakeup_.get(), &counter, sizeof counter);
  }
}

void Pump::noteEvent(uint64_t id, uint32_t events) {
  std::shared_ptr<Stream> stream;
  bool ofSpool = id & SPOOL_BIT;
  {
    std::lock_guard held(lock_);
    auto found = streams_.find(id & ~SPOOL_BIT);
    if (found == streams_.end()) return;
    stream = found->second;
  }
  std::lock_guard held(stream->lock);
  if (stream->stopped) return;
  if (ofSpool)
    stream->starved = false;
  else
    stream->writable = true;
  if (!ofSpool && events & EPOLLERR) {
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error != 0) fail(stream, error);
  }
  if (stream->queued || !hasWork(*stream)) return;
  stream->queued = true;
  work_.push_back(stream);
}

/**
 * Nothing is sent until the front piece's spool has something. Holds the stream's lock. A socket that has something
 * already is an event at once; one that has come to nothing is for others to replace.
 */
void Pump::starve(const std::shared_ptr<Stream> &stream) {
  const Piece &piece = stream->pieces.front();
  Spool &spool = *piece.spool;
  stream->starved = true;
  spool.park(stream);
  if (piece.missing == ENODATA) {
    epoll_event event{.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, .data = {.u64 = stream->id | SPOOL_BIT}};
    int socket = spool.socket();
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, socket, &event) == 0) return;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket, &event) == 0) return;
  }
  if (spool.socket() >= 0 || spool.filled() > piece.offset + piece.done) {
    // It was fed meanwhile. Whoever did so takes the stream out of its parking place, or this does.
    if (spool.unpark()) stream->starved = false;
    return;
  }
  outcomes_.push_back({stream, 0, piece.missing, piece.spool});
}

void Pump::feed(const std::shared_ptr<Spool> &spool) {
  std::shared_ptr<Stream> stream = spool->unpark();
  if (!stream) return;
  std::lock_guard held(stream->lock);
  stream->starved = false;
  kick(stream);
}

/** Holds the stream's lock. */
void Pump::fail(const std::shared_ptr<Stream> &stream, int error) {
  if (stream->failed) return;
  stream->failed = true;
  outcomes_.push_back({stream, 0, error});
}

/** A stream's share. @returns whether it wants another turn. */
bool Pump::turn(const std::shared_ptr<Stream> &stream) {
  std::unique_lock held(stream->lock);
  int64_t budget = SLICE_BYTES;
  while (hasWork(*stream)) {
    if (budget <= 0) return true;
    if (sendSome(*stream, held, budget)) continue;
    int error = errno;
    if (stream->stopped || error == EINTR) continue;
    if (error == EAGAIN)
      stream->writable = false;
    else if (error == ENODATA)
      starve(stream);
    else
      fail(stream, error);
  }
  stream->queued = false;
  bool dry = !stream->stopped && !stream->failed && stream->writable && !stream->starved;
  if (dry && stream->moved) {
    stream->moved = false;
    outcomes_.push_back({stream, stream->sent, 0});
  }
  return false;
}

/** One system call for the front piece. @returns false with errno */
bool Pump::sendSome(Stream &stream, std::unique_lock<std::mutex> &held, int64_t &budget) {
  Piece &piece = stream.pieces.front(); // stays where it is: the others only append
  int64_t length = std::min({piece.length - piece.done, stream.limit - stream.sent, CHUNK_BYTES});
  ssize_t result = 0;
  if (length > 0) {
    bool more = length == piece.length - piece.done && moreFollows(stream, piece);
    stream.busy = true;
    held.unlock();
    result = sendPiece(stream.fd, piece, length, more);
    int error = errno;
    held.lock();
    stream.busy = false;
    if (result > 0) {
      piece.done += result;
      stream.sent += result;
      budget -= result;
    }
    if (stream.closeWhenIdle) ::close(stream.fd);
    if (stream.stopped) stream.idle.notify_all();
    errno = error;
    if (result < 0) return false;
  }
  stream.moved = true;
  if (piece.done == piece.length) stream.pieces.pop_front();
  return true;
}
