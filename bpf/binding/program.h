// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "fd.h"
#include "map.h"

namespace baton {

struct TestRunOptions {
  std::optional<Span> data;
  std::optional<Span> context;
  uint32_t repeat = 0;
  uint32_t ingress_ifindex = 0;
};

struct TestRunResult {
  uint32_t retval = 0;
  uint32_t duration_ns = 0;
  Bytes data_out;
  std::optional<Bytes> context_out;
};

/** A loaded BPF program by its descriptor. */
class Program {
 public:
  Program(Fd fd, const std::string &name);
  static std::shared_ptr<Program> open_pinned(const std::string &path);

  const std::string &name() const { return name_; }
  /** As libbpf calls it: "xdp", "sched_cls", "syscall", ... */
  std::string type() const;
  int fd() const { return fd_.get(); }

  void pin(const std::string &path) const;
  TestRunResult test_run(const TestRunOptions &options) const;

 private:
  TestRunResult run_syscall(Span context) const;

  Fd fd_;
  std::string name_;
  uint32_t type_ = 0;
};

} // namespace baton
