#include "loop.h"

#include <utility>

#include "failure.h"

void Handle::opened() {
  loop_.handles_.insert(this);
}

void Handle::close() {
  if (closed_) return;
  closed_ = true;
  loop_.handles_.erase(this);
  loop_.closing_++;
  raw()->data = this;
  uv_close(raw(), [](uv_handle_t *raw) {
    auto handle = static_cast<Handle *>(raw->data);
    Loop &loop = handle->loop_;
    delete handle;
    loop.closedOne();
  });
}

Watcher *Watcher::open(Loop &loop, int fd, std::function<void(int)> ready, int events) {
  auto watcher = new Watcher(loop);
  watcher->events_ = events;
  watcher->ready_ = std::move(ready);
  if (int error = uv_poll_init(loop.loop_, &watcher->poll_, fd)) {
    delete watcher;
    throw Failure(-error, "watch", "uv_poll_init");
  }
  watcher->raw()->data = static_cast<Handle *>(watcher);
  watcher->opened();
  return watcher;
}

void Watcher::start() {
  if (closed_) return;
  uv_poll_start(&poll_, events_, [](uv_poll_t *poll, int status, int) {
    auto watcher = static_cast<Watcher *>(static_cast<Handle *>(poll->data));
    if (!watcher->closed_) watcher->ready_(status);
  });
}

void Watcher::pause() {
  if (!closed_) uv_poll_stop(&poll_);
}

Timer *Timer::open(Loop &loop, std::function<void()> over) {
  auto timer = new Timer(loop);
  timer->over_ = std::move(over);
  uv_timer_init(loop.loop_, &timer->timer_);
  timer->raw()->data = static_cast<Handle *>(timer);
  timer->opened();
  return timer;
}

void Timer::start(uint64_t milliseconds) {
  if (closed_) return;
  uv_timer_start(
      &timer_,
      [](uv_timer_t *raw) {
        auto timer = static_cast<Timer *>(static_cast<Handle *>(raw->data));
        if (!timer->closed_) timer->over_();
      },
      milliseconds, 0);
}

Loop::Loop(uv_loop_t *loop) : loop_(loop) {
  uv_async_init(loop_, &async_, [](uv_async_t *async) { static_cast<Loop *>(async->data)->runPosted(); });
  async_.data = this;
  uv_unref(reinterpret_cast<uv_handle_t *>(&async_));
}

void Loop::post(std::function<void()> task) {
  std::lock_guard held(lock_);
  if (!open_) return;
  posted_.push_back(std::move(task));
  if (posted_.size() == 1) uv_async_send(&async_);
}

void Loop::runPosted() {
  std::vector<std::function<void()>> tasks;
  {
    std::lock_guard held(lock_);
    tasks.swap(posted_);
  }
  for (auto &task : tasks) {
    if (!shuttingDown_) task();
  }
}

void Loop::hold() {
  if (holders_++ == 0 && !shuttingDown_) uv_ref(reinterpret_cast<uv_handle_t *>(&async_));
}

void Loop::letGo() {
  if (--holders_ == 0 && !shuttingDown_) uv_unref(reinterpret_cast<uv_handle_t *>(&async_));
}

void Loop::shutDown(std::function<void()> done) {
  shuttingDown_ = true;
  shutDownDone_ = std::move(done);
  {
    std::lock_guard held(lock_);
    open_ = false;
  }
  while (!handles_.empty())
    (*handles_.begin())->close();
  closing_++;
  uv_close(reinterpret_cast<uv_handle_t *>(&async_),
           [](uv_handle_t *async) { static_cast<Loop *>(async->data)->closedOne(); });
}

void Loop::closedOne() {
  if (--closing_ == 0 && shutDownDone_) std::exchange(shutDownDone_, nullptr)();
}
