#include "worker.h"

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

void Worker::run(std::function<void()> job) {
  std::lock_guard held(lock_);
  if (stopping_) return;
  jobs_.push_back(std::move(job));
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  changed_.notify_one();
}

void Worker::stop() {
  {
    std::lock_guard held(lock_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void Worker::work() {
  pthread_setname_np(pthread_self(), name_.c_str());
  if (nice_ > 0) {
    sched_param normal{};
    sched_setscheduler(0, SCHED_OTHER, &normal);
    setpriority(PRIO_PROCESS, gettid(), nice_);
  }
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock held(lock_);
      changed_.wait(held, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}
