// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "fd.h"
#include "hold_engine.h"
#include "hold_news.h"

namespace baton {

struct HoldAssignment {
  uint64_t id; // comes back in the HoldOutcome
  FlowKey flow;
  uint16_t slot;
  Mac mac;
};

/**
 * HoldEngine on a thread of its own, so that held packets leave whatever the event loop is doing. All its methods are
 * for one other thread. The destructor stops it; what is queued then is gone (the hold's deadline in the map ends the
 * hold).
 */
class HoldQueue {
 public:
  /** @param wake called on the queue's thread: there is news to take() */
  HoldQueue(const HoldConfig &config, std::function<void()> wake);
  ~HoldQueue();
  HoldQueue(const HoldQueue &) = delete;
  HoldQueue &operator=(const HoldQueue &) = delete;

  void assign(std::vector<HoldAssignment> assignments);
  uint32_t drop(const FlowKey &flow);
  void forget(const FlowKey &flow);
  std::vector<HoldSnapshot> flows();
  const HoldStats &stats() const { return engine_.stats(); }
  void send(Span frame) { engine_.send(frame); }
  HoldNews &news() { return news_; }

 private:
  using Command = std::function<void()>;

  void post(Command command);
  /** Runs `question` on the queue's thread and waits for its answer: a bounded step at most. */
  template <typename Question> auto ask(Question question) -> decltype(question());
  void run();
  void run_commands();
  void wait(const HoldEngine::Next &next);

  HoldNews news_;
  HoldEngine engine_;
  Fd wakeup_, epoll_;
  std::mutex mutex_;
  std::vector<Command> commands_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

} // namespace baton
