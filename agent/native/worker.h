#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

/** A thread of our own for work that would block the loop or crowd libuv's pool. Starts with its first job. */
class Worker {
 public:
  /** `nice` above 0: scheduled normally and behind everybody else, whatever the process's own policy. */
  Worker(std::string name, int nice) : name_(std::move(name)), nice_(nice) {}
  ~Worker() { stop(); }
  Worker(const Worker &) = delete;

  /** Jobs run in order; a long one should look at isStopping now and then. */
  void run(std::function<void()> job);
  bool isStopping() const { return stopping_; }
  /** Waits for the job under way, drops the rest. */
  void stop();

 private:
  void work();

  const std::string name_;
  const int nice_;
  std::thread thread_;
  std::mutex lock_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  std::atomic<bool> stopping_ = false;
};
