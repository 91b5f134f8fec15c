#include "spool.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "failure.h"

namespace {

constexpr int64_t FETCH_BYTES = 256 << 10; // of one system call
constexpr int64_t PAGE_BYTES = 4096;

/** Between a socket and a file: splice needs one. Empty between two calls, so one a thread will do. */
struct Pipe {
  Descriptor read, write;

  Pipe() {
    int ends[2];
    check(pipe2(ends, O_CLOEXEC | O_NONBLOCK), "spool", "pipe2");
    read.reset(ends[0]);
    write.reset(ends[1]);
    fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(FETCH_BYTES)); // as far as the limit for pipes allows it
  }
};

} // namespace

Spool::Spool(int64_t start, int64_t end)
    : end_(end), file_(check(memfd_create("baton-spool", MFD_CLOEXEC), "spool", "memfd_create")), released_(start),
      filled_(start) {
  if (start < 0 || start > end) throw Failure(EINVAL, "spool", "none");
}

int64_t Spool::filled() {
  std::lock_guard held(lock_);
  return filled_;
}

void Spool::put(const std::string &bytes) {
  std::lock_guard held(lock_);
  for (size_t done = 0; done < bytes.size();) {
    ssize_t length = check(pwrite(file_.get(), bytes.data() + done, bytes.size() - done, filled_), "spool", "pwrite");
    done += length;
    filled_ += length;
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
  int64_t from = released_ / PAGE_BYTES * PAGE_BYTES, to = std::min(below, filled_) / PAGE_BYTES * PAGE_BYTES;
  if (to <= from) return;
  // Where it fails the file stays longer, and nothing else is wrong.
  if (fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, to - from) == 0) released_ = to;
}

int64_t Spool::provide(int64_t position, int64_t wanted) {
  std::lock_guard held(lock_);
  while (filled_ <= position) {
    if (!fetch(position + wanted - filled_)) return 0;
  }
  return std::min(wanted, filled_ - position);
}

/** Some bytes more, at most `most`. Holds the lock. @returns false with errno */
bool Spool::fetch(int64_t most) {
  static thread_local std::unique_ptr<Pipe> pipe;
  if (!socket_) {
    errno = EPIPE;
    return false;
  }
  if (!pipe) pipe = std::make_unique<Pipe>();
  size_t length = std::min({most, end_ - filled_, FETCH_BYTES});
  ssize_t taken = splice(socket_.get(), nullptr, pipe->write.get(), nullptr, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (taken < 0 && errno == EINTR) return true;
  if (taken < 0 && errno == EAGAIN) {
    errno = ENODATA;
    return false;
  }
  if (taken <= 0) {
    int error = taken < 0 ? errno : EPIPE;
    socket_.reset();
    errno = error;
    return false;
  }
  while (taken > 0) {
    off_t at = filled_;
    ssize_t put = splice(pipe->read.get(), nullptr, file_.get(), &at, taken, SPLICE_F_MOVE);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) {
      int error = put < 0 ? errno : EIO;
      pipe.reset(); // with what is in it
      socket_.reset();
      errno = error;
      return false;
    }
    filled_ += put;
    taken -= put;
  }
  if (filled_ == end_) socket_.reset();
  return true;
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
