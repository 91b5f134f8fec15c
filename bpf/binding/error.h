// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>

namespace baton {

/** Everything that goes wrong below TypeScript. `code` is the errno's name, or ELIBBPF for errors of libbpf's own. */
struct Error : std::runtime_error {
  Error(std::string code, std::string syscall, std::string subject, const std::string &why, std::string log = "");
  std::string code;
  std::string syscall;
  std::string subject;
  std::string log;
};

/** The name of an errno, positive or negative: "EEXIST". */
std::string errno_code(int err);

/** @param err an errno, positive or negative */
[[noreturn]] void fail(int err, const std::string &syscall, const std::string &subject, const std::string &log = "");

/** For mistakes of the caller: a wrong length, an unknown name. */
[[noreturn]] void refuse(const std::string &code, const std::string &syscall, const std::string &subject,
                         const std::string &why);

} // namespace baton
