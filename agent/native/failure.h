#pragma once

#include <cerrno>
#include <cstring>
#include <exception>
#include <string>

/** A system call that failed: everything that TcpError (index.ts) says. */
struct Failure : std::exception {
  int number;          // errno
  std::string step;    // what Baton was doing: "bind", "options", ...
  std::string syscall; // setsockopt(TCP_REPAIR_OPTIONS)
  std::string subject; // 10.77.0.100:80 <- 10.77.0.10:51234, a path, a pid

  Failure(int number, std::string step, std::string syscall, std::string subject = "")
      : number(number), step(std::move(step)), syscall(std::move(syscall)), subject(std::move(subject)) {}

  /** The error's symbolic name: "EADDRINUSE". */
  std::string code() const {
    const char *name = strerrorname_np(number);
    return name ? name : "E" + std::to_string(number);
  }

  const char *what() const noexcept override { return "system call failed"; }
};

/** Returns `result` unless it is negative, then throws errno as a Failure. */
template <typename Result>
Result check(Result result, const char *step, const char *syscall, const std::string &subject = "") {
  if (result < 0) throw Failure(errno, step, syscall, subject);
  return result;
}
