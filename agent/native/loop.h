#pragma once

#include <uv.h>

#include <functional>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <vector>

class Loop;

/** A handle on the event loop. Freed by the loop some time after close(). */
class Handle {
 public:
  /** No callback comes any more from now on. */
  void close();

 protected:
  explicit Handle(Loop &loop) : loop_(loop) {}
  virtual ~Handle() = default;
  virtual uv_handle_t *raw() = 0;
  /** Called by the subclass once its uv handle is initialised. */
  void opened();

  Loop &loop_;
  bool closed_ = false;
};

/** Watches a descriptor for input, or something else. The descriptor may be closed right after close() or pause(). */
class Watcher : public Handle {
 public:
  /** `ready` gets 0 or a negative errno. @throws Failure */
  static Watcher *open(Loop &loop, int fd, std::function<void(int status)> ready, int events = UV_READABLE);
  void start();
  void pause();

 private:
  using Handle::Handle;
  uv_handle_t *raw() override { return reinterpret_cast<uv_handle_t *>(&poll_); }

  uv_poll_t poll_;
  int events_ = UV_READABLE;
  std::function<void(int)> ready_;
};

/** Calls back once, `milliseconds` after each start. */
class Timer : public Handle {
 public:
  static Timer *open(Loop &loop, std::function<void()> over);
  void start(uint64_t milliseconds);

 private:
  using Handle::Handle;
  uv_handle_t *raw() override { return reinterpret_cast<uv_handle_t *>(&timer_); }

  uv_timer_t timer_;
  std::function<void()> over_;
};

/** The event loop of one environment: its handles, and the way back to it from other threads. */
class Loop {
 public:
  explicit Loop(uv_loop_t *loop);
  Loop(const Loop &) = delete;

  /** From any thread: runs `task` on the loop. Dropped once shutDown has begun. */
  void post(std::function<void()> task);
  /** Keeps the process alive until as many letGo calls: while a connection or an answer of another thread is
   * outstanding. */
  void hold();
  void letGo();

  /** Closes every handle, then calls `done`, from the loop. */
  void shutDown(std::function<void()> done);
  bool isShuttingDown() const { return shuttingDown_; }

 private:
  friend class Handle;
  friend class Watcher;
  friend class Timer;
  void runPosted();
  void closedOne();

  uv_loop_t *const loop_;
  uv_async_t async_;
  std::mutex lock_; // of posted_, open_
  std::vector<std::function<void()>> posted_;
  bool open_ = true;
  size_t holders_ = 0;
  std::unordered_set<Handle *> handles_;
  size_t closing_ = 0;
  bool shuttingDown_ = false;
  std::function<void()> shutDownDone_;
};
