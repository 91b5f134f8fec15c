#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>

int openFile(const std::string &path) {
  Descriptor file(check(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), "open", "open", path));
  struct stat status;
  check(fstat(file.get(), &status), "open", "fstat", path);
  if (S_ISDIR(status.st_mode)) throw Failure(EISDIR, "open", "fstat", path);
  if (!S_ISREG(status.st_mode)) throw Failure(EINVAL, "open", "fstat", path + " is not a regular file");
  return file.release();
}
