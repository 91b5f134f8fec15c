// SPDX-License-Identifier: Apache-2.0
#include "hold_queue.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <exception>
#include <memory>

#include "error.h"

namespace baton {
namespace {

void watch(int epoll, int fd, uint32_t events, const char *what) {
  struct epoll_event event = {};
  event.events = events;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail(errno, "epoll_ctl", what);
}

} // namespace

HoldQueue::HoldQueue(const HoldConfig &config, std::function<void()> wake)
    : news_(std::move(wake)), engine_(config, news_), wakeup_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (!wakeup_.open()) fail(errno, "eventfd", config.interface);
  if (!epoll_.open()) fail(errno, "epoll_create1", config.interface);
  watch(epoll_.get(), wakeup_.get(), EPOLLIN, "eventfd");
  watch(epoll_.get(), engine_.ring_fd(), EPOLLIN, "ring buffer");
  // Signals are for the main thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread_.native_handle(), "baton-hold");
}

HoldQueue::~HoldQueue() {
  stopping_ = true;
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = write(wakeup_.get(), &one, sizeof one);
  thread_.join();
}

void HoldQueue::post(Command command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = write(wakeup_.get(), &one, sizeof one);
}

template <typename Question> auto HoldQueue::ask(Question question) -> decltype(question()) {
  auto task = std::make_shared<std::packaged_task<decltype(question())()>>(std::move(question));
  auto answer = task->get_future();
  post([task] { (*task)(); });
  return answer.get();
}

void HoldQueue::assign(std::vector<HoldAssignment> assignments) {
  post([this, assignments = std::move(assignments)] {
    for (const auto &item : assignments)
      engine_.assign(item.id, item.flow, item.slot, item.mac);
  });
}

uint32_t HoldQueue::drop(const FlowKey &flow) {
  return ask([this, flow] { return engine_.drop(flow); });
}

void HoldQueue::forget(const FlowKey &flow) {
  post([this, flow] { engine_.forget(flow); });
}

std::vector<HoldSnapshot> HoldQueue::flows() {
  return ask([this] { return engine_.flows(); });
}

void HoldQueue::run_commands() {
  std::vector<Command> commands;
  {
    const std::lock_guard lock(mutex_);
    commands.swap(commands_);
  }
  for (auto &command : commands)
    command();
}

void HoldQueue::run() {
  while (!stopping_) {
    run_commands();
    const HoldEngine::Next next = engine_.step();
    if (!next.at_once) wait(next);
  }
}

void HoldQueue::wait(const HoldEngine::Next &next) {
  // The socket is watched only while it is full: an error on an idle one would wake us without end.
  if (next.when_writable) watch(epoll_.get(), engine_.socket_fd(), EPOLLOUT, "socket");
  const struct timespec timeout = {0, static_cast<long>(next.timeout_ns)};
  struct epoll_event events[4];
  epoll_pwait2(epoll_.get(), events, 4, next.timeout_ns ? &timeout : nullptr, nullptr);
  if (next.when_writable) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, engine_.socket_fd(), nullptr);
  uint64_t count;
  [[maybe_unused]] const auto taken = read(wakeup_.get(), &count, sizeof count);
}

} // namespace baton
