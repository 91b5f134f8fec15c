#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "descriptor.h"
#include "spool.h"

/** A stretch of output: literal bytes, a range of a regular file, which may be a spool's, or the FIN. */
struct Piece {
  enum Kind { LITERAL, FILE, FIN } kind;
  std::string literal;
  int fd = -1;                  // borrowed
  std::shared_ptr<Spool> spool; // whose file `fd` is; it is filled as it is sent
  int64_t offset = 0;
  int64_t length = 0; // in the stream; 1 for a FIN

  /** What has been sent of it. */
  int64_t done = 0;
  /** Why the spool has nothing, an errno as of Spool::send. */
  int missing = 0;
};

/**
 * One connection's output. Offsets are stream offsets:
 *
 *        sent by the kernel's leave │ waits, but may go │ may not go yet
 *      ─────────────────────────────┼───────────────────┼────────────────┤ end of `pieces`
 *                                 sent                limit
 *
 * Whoever holds `lock` may touch it. The pump lets go of the lock during a system call and says so in `busy`; meanwhile
 * the fd belongs to it, and the front piece stays as it is.
 */
struct Stream {
  Stream(uint64_t id, int fd, int64_t offset) : id(id), fd(fd), limit(offset), sent(offset) {}

  const uint64_t id;
  const int fd;

  std::mutex lock;
  std::condition_variable idle; // `busy` has become false and `stopped` is set
  std::deque<Piece> pieces;
  int64_t limit;
  int64_t sent;
  bool ended = false;         // the FIN was appended
  bool writable = true;       // no EAGAIN since the last EPOLLOUT
  bool starved = false;       // the front piece's spool has nothing now
  bool queued = false;        // in the pump's list of work, or on its way there
  bool busy = false;          // the pump is inside a system call on fd
  bool moved = false;         // something was sent since it last ran dry
  bool failed = false;        // nothing is sent any more
  bool stopped = false;       // the pump must not touch fd any more
  bool closeWhenIdle = false; // the pump, busy when it was stopped, closes fd
};

/** What the pump has to say about a stream: it ran dry at an offset, or an errno; or about its spool, which has come to
 * nothing. */
struct Outcome {
  std::shared_ptr<Stream> stream;
  int64_t drained;
  int error;                    // 0: drained
  std::shared_ptr<Spool> spool; // whose error it is
};

/**
 * Sends the output of all connections from one thread: epoll, edge-triggered, a fair slice a connection a turn. File
 * ranges go by sendfile, spools by splice, and never through user space.
 *
 * Life of a stream: add, then any of append and setLimit, then exactly one of close, closeSilently and detach, after
 * which the pump neither touches the fd nor reports anything that was not yet on its way (receivers drop that by
 * `stopped`).
 */
class Pump {
 public:
  using Report = std::function<void(std::vector<Outcome>)>;

  /** `report` is called on the pump's thread, with a turn's outcomes at once. */
  explicit Pump(Report report) : report_(std::move(report)) {}
  ~Pump() { stop(); }
  Pump(const Pump &) = delete;

  /** Takes a connected, non-blocking socket. Starts the thread when it is the first. @throws Failure */
  std::shared_ptr<Stream> add(int fd, int64_t sendOffset);
  /** @throws Failure EPIPE behind a FIN, EBADF when stopped */
  void append(const std::shared_ptr<Stream> &stream, std::vector<Piece> pieces);
  /** Never lowers below what was sent. */
  void setLimit(const std::shared_ptr<Stream> &stream, int64_t limit);
  int64_t sentOffset(const std::shared_ptr<Stream> &stream);
  /** The spool has got bytes, or a socket: whoever waits for it goes on. */
  void feed(const std::shared_ptr<Spool> &spool);

  /** close(2). Does not wait: if the pump is inside a system call it closes afterwards. Files of pieces may be closed
   * at once. */
  void close(const std::shared_ptr<Stream> &stream);
  /** As close, inside repair mode, which needs CAP_NET_ADMIN. @throws Failure: the fd stays open, stopped for good */
  void closeSilently(const std::shared_ptr<Stream> &stream);
  /** Waits for the system call that is under way (at most one sendfile of CHUNK_BYTES). @returns the fd, the caller's
   * again */
  int detach(const std::shared_ptr<Stream> &stream);

  /** Ends the thread. Streams stay open. */
  void stop();

 private:
  void run();
  void wait(bool hasWork);
  void noteEvent(uint64_t id, uint32_t events);
  bool turn(const std::shared_ptr<Stream> &stream);
  bool sendSome(Stream &stream, std::unique_lock<std::mutex> &held, int64_t &budget);
  void starve(const std::shared_ptr<Stream> &stream);
  void fail(const std::shared_ptr<Stream> &stream, int error);
  void kick(const std::shared_ptr<Stream> &stream);
  void forget(const std::shared_ptr<Stream> &stream);
  void closeOrLeave(Stream &stream);
  void wake();

  const Report report_;
  Descriptor epoll_, wakeup_;
  std::thread thread_;

  std::mutex lock_; // of the four below; taken after a stream's lock, never before
  std::unordered_map<uint64_t, std::shared_ptr<Stream>> streams_;
  std::vector<std::shared_ptr<Stream>> kicked_;
  uint64_t nextId_ = 1; // 0 is the wake-up's
  bool stopping_ = false;

  // of the thread alone:
  std::deque<std::shared_ptr<Stream>> work_;
  std::vector<Outcome> outcomes_;
};
