#pragma once

#include <dirent.h>
#include <unistd.h>

#include <memory>
#include <utility>

/** Owns a file descriptor. */
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor &&other) noexcept : fd_(other.release()) {}
  Descriptor &operator=(Descriptor &&other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~Descriptor() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_;
};

struct CloseFolder {
  void operator()(DIR *folder) const { closedir(folder); }
};
/** Owns an open folder. */
using Folder = std::unique_ptr<DIR, CloseFolder>;
