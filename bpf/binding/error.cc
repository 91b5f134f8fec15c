// SPDX-License-Identifier: Apache-2.0
#include "error.h"

#include <bpf/libbpf.h>

#include <cstdlib>
#include <cstring>

namespace baton {

Error::Error(std::string code_, std::string syscall_, std::string subject_, const std::string &why, std::string log_)
    : std::runtime_error(code_ + ": " + syscall_ + " " + subject_ + (why.empty() ? "" : ": " + why)),
      code(std::move(code_)), syscall(std::move(syscall_)), subject(std::move(subject_)), log(std::move(log_)) {}

std::string errno_code(int err) {
  err = std::abs(err);
  if (err >= __LIBBPF_ERRNO__START) return "ELIBBPF";
  // The kernel's own ENOTSUPP has no name in user space.
  if (err == 524) return "ENOTSUPP";
  const char *name = strerrorname_np(err);
  return name ? name : "E" + std::to_string(err);
}

void fail(int err, const std::string &syscall, const std::string &subject, const std::string &log) {
  char text[160] = "";
  libbpf_strerror(err, text, sizeof text);
  throw Error(errno_code(err), syscall, subject, text, log);
}

void refuse(const std::string &code, const std::string &syscall, const std::string &subject, const std::string &why) {
  throw Error(code, syscall, subject, why);
}

} // namespace baton
