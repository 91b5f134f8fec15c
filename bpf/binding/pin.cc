// SPDX-License-Identifier: Apache-2.0
#include "pin.h"

#include <bpf/bpf.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>

#include "error.h"

namespace baton {
namespace {

void make_parents(const std::string &path) {
  for (size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
    const std::string folder = path.substr(0, at);
    if (mkdir(folder.c_str(), 0700) && errno != EEXIST) fail(errno, "mkdir", folder);
  }
}

const char *anonymous_inode(PinKind kind) {
  switch (kind) {
  case PinKind::kMap:
    return "bpf-map";
  case PinKind::kProgram:
    return "bpf-prog";
  case PinKind::kLink:
    return "link";
  }
  return "";
}

} // namespace

void pin(int fd, const std::string &path) {
  make_parents(path);
  const int err = bpf_obj_pin(fd, path.c_str());
  if (err) fail(err, "BPF_OBJ_PIN", path);
}

void replace_pin(int fd, const std::string &path) {
  // bpffs reserves names with a dot.
  const std::string next = path + "_next";
  unlink(next.c_str());
  pin(fd, next);
  if (rename(next.c_str(), path.c_str())) {
    const int err = errno;
    unlink(next.c_str());
    fail(err, "rename", path);
  }
}

Fd open_pinned(const std::string &path, PinKind kind) {
  const int fd = bpf_obj_get(path.c_str());
  if (fd < 0) fail(fd, "BPF_OBJ_GET", path);
  Fd owned(fd);
  char target[64] = "";
  const std::string entry = "/proc/self/fd/" + std::to_string(fd);
  if (readlink(entry.c_str(), target, sizeof target - 1) < 0) fail(errno, "readlink", entry);
  // "anon_inode:bpf-map"; links are "bpf-link", "bpf_link" or in brackets, depending on the kernel.
  if (std::string(target).find(anonymous_inode(kind)) == std::string::npos)
    refuse("EINVAL", "BPF_OBJ_GET", path, std::string("this is ") + target);
  return owned;
}

bool pinned(const std::string &path) {
  return access(path.c_str(), F_OK) == 0;
}

std::string name_of_pin(const std::string &kernel_name, const std::string &path) {
  const std::string last = path.substr(path.find_last_of('/') + 1);
  return kernel_name.size() == 15 && last.compare(0, 15, kernel_name) == 0 ? last : kernel_name;
}

} // namespace baton
