#include "file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int openFile(const std::string &path) {
  Descriptor file(check(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), "open", "open", path));
  struct stat status;
  check(fstat(file.get(), &status), "open", "fstat", path);
  if (S_ISDIR(status.st_mode)) throw Failure(EISDIR, "open", "fstat", path);
  if (!S_ISREG(status.st_mode)) throw Failure(EINVAL, "open", "fstat", path + " is not a regular file");
  return file.release();
}

int memoryFile(const void *bytes, size_t length, int64_t position) {
  Descriptor file(check(memfd_create("baton-object", MFD_CLOEXEC), "memoryFile", "memfd_create"));
  auto next = static_cast<const char *>(bytes);
  while (length > 0) {
    auto written = static_cast<size_t>(check(pwrite(file.get(), next, length, position), "memoryFile", "pwrite"));
    next += written;
    length -= written;
    position += static_cast<int64_t>(written);
  }
  return file.release();
}
