#include "process.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <future>
#include <memory>

#include "failure.h"

namespace {

/** linux/pidfd.h; the C library's headers are older. */
constexpr unsigned pidfdThread = O_EXCL;
constexpr int canaryPriority = 11;

void *doNothing(void *argument) {
  // Where it is refused the canary goes a little later; it still goes ahead of the memory.
  sched_param realtime{.sched_priority = canaryPriority};
  sched_setscheduler(0, SCHED_RR, &realtime);
  {
    // Its own share: the starter may be on its way again before set_value returns.
    std::unique_ptr<std::shared_ptr<std::promise<int>>> started(
        static_cast<std::shared_ptr<std::promise<int>> *>(argument));
    (*started)->set_value(gettid());
  }
  for (;;)
    pause();
}

/** As mkdir -p. */
void makeFolders(const std::string &path) {
  for (size_t end = 0; end != std::string::npos;) {
    end = path.find('/', end + 1);
    std::string folder = path.substr(0, end);
    if (mkdir(folder.c_str(), 0755) < 0 && errno != EEXIST) throw Failure(errno, "cgroup", "mkdir", folder);
  }
}

} // namespace

Descriptor openProcess(int pid) {
  return Descriptor(static_cast<int>(
      check(syscall(SYS_pidfd_open, pid, 0), "watch process", "pidfd_open", "pid " + std::to_string(pid))));
}

int startCanary() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN + 16384);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  // No signal of the process is its business.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  auto started = std::make_shared<std::promise<int>>();
  auto share = std::make_unique<std::shared_ptr<std::promise<int>>>(started);
  pthread_t thread;
  int error = pthread_create(&thread, &attributes, doNothing, share.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (error != 0) throw Failure(error, "start canary", "pthread_create");
  share.release();
  return started->get_future().get();
}

Descriptor openThread(int thread) {
  return Descriptor(static_cast<int>(check(syscall(SYS_pidfd_open, thread, pidfdThread), "watch thread",
                                           "pidfd_open(PIDFD_THREAD)", "tid " + std::to_string(thread))));
}

bool setRealtime(int priority) {
  Folder threads(opendir("/proc/self/task"));
  if (!threads) return false;
  bool all = true;
  while (dirent *entry = readdir(threads.get())) {
    int thread = atoi(entry->d_name);
    if (thread <= 0 || getpriority(PRIO_PROCESS, thread) > 0) continue;
    sched_param realtime{.sched_priority = priority};
    // A thread may have ended since it was listed.
    if (sched_setscheduler(thread, SCHED_RR, &realtime) < 0 && errno != ESRCH) all = false;
  }
  return all;
}

void joinCgroup(const std::string &path) {
  makeFolders(path);
  std::string file = path + "/cgroup.procs";
  Descriptor group(check(open(file.c_str(), O_WRONLY | O_CLOEXEC), "cgroup", "open", file));
  std::string pid = std::to_string(getpid());
  check(write(group.get(), pid.data(), pid.size()), "cgroup", "write", file);
}
