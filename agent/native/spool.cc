#include "spool.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "failure.h"

namespace {

constexpr int PIPE_BYTES = 256 << 10;       // in pages, each of which may hold as little as a fragment of a segment
constexpr int64_t REMEMBER_BYTES = 4 << 20; // far below what may be under way past a committed floor
constexpr int64_t PAGE_BYTES = 4096;

} // namespace

Pipe::Pipe(int bytes) {
  int ends[2];
  check(pipe2(ends, O_CLOEXEC | O_NONBLOCK), "spool", "pipe2");
  read.reset(ends[0]);
  write.reset(ends[1]);
  fcntl(ends[1], F_SETPIPE_SZ, bytes);
}

Spool::Spool(int64_t start, int64_t end)
    : end_(end), file_(check(memfd_create("baton-spool", MFD_CLOEXEC), "spool", "memfd_create")), filled_(start),
      putFrom_(start), putTo_(start), released_(start), pipedTo_(start) {
  if (start < 0 || start > end) throw Failure(EINVAL, "spool", "none");
}

int64_t Spool::filled() {
  std::lock_guard held(lock_);
  return filled_;
}

void Spool::put(const std::string &bytes) {
  std::lock_guard held(lock_);
  if (bytes.empty()) return;
  if (putTo_ != filled_) {
    if (putTo_ > putFrom_) remember(putTo_ - 1);
    putFrom_ = putTo_ = released_ = filled_;
  }
  for (size_t done = 0; done < bytes.size();) {
    ssize_t length = check(pwrite(file_.get(), bytes.data() + done, bytes.size() - done, filled_), "spool", "pwrite");
    done += length;
    filled_ += length;
    putTo_ = filled_;
  }
}

void Spool::attach(Descriptor socket) {
  std::lock_guard held(lock_);
  socket_ = std::move(socket);
}

int Spool::socket() {
  std::lock_guard held(lock_);
  return socket_.get();
}

void Spool::release(int64_t below) {
  std::lock_guard held(lock_);
  auto kept = remembered_.lower_bound(below);
  if (kept != remembered_.begin()) remembered_.erase(remembered_.begin(), std::prev(kept));
  // The byte in front of it stays, and with it its page.
  int64_t from = released_ / PAGE_BYTES * PAGE_BYTES, to = (std::min(below, putTo_) - 1) / PAGE_BYTES * PAGE_BYTES;
  if (to <= from) return;
  // Where it fails the file stays longer, and nothing else is wrong.
  if (fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, to - from) == 0) released_ = to;
}

int64_t Spool::known(int64_t below) {
  std::lock_guard held(lock_);
  int64_t put = std::min(below, putTo_) - 1;
  if (put < std::max(putFrom_, released_)) put = -1;
  auto found = remembered_.lower_bound(below);
  return std::max(put, found == remembered_.begin() ? -1 : std::prev(found)->first);
}

uint8_t Spool::byteAt(int64_t position) {
  std::lock_guard held(lock_);
  auto found = remembered_.find(position);
  if (found != remembered_.end()) return found->second;
  uint8_t byte;
  if (!isPut(position) || position < released_ || pread(file_.get(), &byte, 1, position) != 1)
    throw Failure(ENODATA, "spool", "none");
  return byte;
}

ssize_t Spool::send(int to, int64_t position, int64_t length, int &missing) {
  std::lock_guard held(lock_);
  bool isPiped = piped_ > 0 && position < pipedTo_;
  if (!isPiped && isPut(position)) {
    off_t offset = position;
    return sendfile(to, file_.get(), &offset, std::min(length, putTo_ - position));
  }
  if (piped_ == 0) {
    if (position != filled_) {
      errno = EINVAL;
      return -1;
    }
    missing = fetch(length);
    if (missing != 0) {
      errno = ENODATA;
      return -1;
    }
  }
  return forward(to, position, length);
}

/** Into the empty pipe, at most `most`. Holds the lock. @returns 0, or why there is nothing */
int Spool::fetch(int64_t most) {
  if (!socket_) return EPIPE;
  if (!pipe_) pipe_ = std::make_unique<Pipe>(PIPE_BYTES);
  size_t length = std::min(most, end_ - filled_);
  ssize_t taken;
  do {
    taken = splice(socket_.get(), nullptr, pipe_->write.get(), nullptr, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  } while (taken < 0 && errno == EINTR);
  if (taken < 0 && errno == EAGAIN) return ENODATA;
  if (taken <= 0) {
    int error = taken < 0 ? errno : EPIPE;
    socket_.reset();
    return error;
  }
  filled_ += taken;
  piped_ = taken;
  pipedTo_ = filled_;
  if (filled_ == end_) socket_.reset();
  return 0;
}

/** Out of the pipe, at most up to the next byte that is to be remembered. Holds the lock. @returns as send(2) */
ssize_t Spool::forward(int to, int64_t position, int64_t length) {
  if (position != pipedTo_ - piped_) {
    errno = EINVAL;
    return -1;
  }
  auto due = [this](int64_t from) { return std::min((from / REMEMBER_BYTES + 1) * REMEMBER_BYTES, end_) - 1; };
  int64_t next = due(position);
  if (next == position) {
    remember(position);
    next = position + 1 < end_ ? due(position + 1) : end_;
  }
  length = std::min({length, piped_, next - position});
  ssize_t sent = splice(pipe_->read.get(), nullptr, to, nullptr, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (sent > 0) piped_ -= sent;
  return sent;
}

/** The byte at `position`, which is the first in the pipe, or was put. Holds the lock. Where it fails it is not known.
 */
void Spool::remember(int64_t position) {
  uint8_t byte;
  if (isPut(position)) {
    if (pread(file_.get(), &byte, 1, position) == 1) remembered_[position] = byte;
    return;
  }
  static thread_local std::unique_ptr<Pipe> aside;
  if (!aside) aside = std::make_unique<Pipe>(PAGE_BYTES);
  if (tee(pipe_->read.get(), aside->write.get(), 1, SPLICE_F_NONBLOCK) != 1) return;
  if (read(aside->read.get(), &byte, 1) == 1) remembered_[position] = byte;
}

void Spool::park(const std::shared_ptr<Stream> &stream) {
  std::lock_guard held(lock_);
  parked_ = stream;
}

std::shared_ptr<Stream> Spool::unpark() {
  std::lock_guard held(lock_);
  std::shared_ptr<Stream> stream = parked_.lock();
  parked_.reset();
  return stream;
}
