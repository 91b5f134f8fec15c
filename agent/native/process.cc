#include "process.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "failure.h"

namespace {

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
