// SPDX-License-Identifier: Apache-2.0
#include "program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <cstring>

#include "error.h"
#include "pin.h"

namespace baton {
namespace {

// A program may put headers in front of the packet.
constexpr size_t kGrowth = 512;

Bytes context_for(uint32_t type, const TestRunOptions &options) {
  if (type == BPF_PROG_TYPE_XDP) {
    struct xdp_md context = {};
    context.data_end = static_cast<uint32_t>(options.data->size);
    context.ingress_ifindex = options.ingress_ifindex;
    const auto *bytes = reinterpret_cast<const uint8_t *>(&context);
    return Bytes(bytes, bytes + sizeof context);
  }
  struct __sk_buff context = {};
  context.ingress_ifindex = options.ingress_ifindex;
  context.ifindex = options.ingress_ifindex;
  const auto *bytes = reinterpret_cast<const uint8_t *>(&context);
  return Bytes(bytes, bytes + sizeof context);
}

} // namespace

Program::Program(Fd fd, const std::string &name) : fd_(std::move(fd)), name_(name) {
  struct bpf_prog_info info = {};
  uint32_t length = sizeof info;
  const int err = bpf_obj_get_info_by_fd(fd_.get(), &info, &length);
  if (err) fail(err, "BPF_OBJ_GET_INFO_BY_FD", name);
  if (name_.empty()) name_ = info.name;
  type_ = info.type;
}

std::shared_ptr<Program> Program::open_pinned(const std::string &path) {
  auto program = std::make_shared<Program>(baton::open_pinned(path, PinKind::kProgram), "");
  program->name_ = name_of_pin(program->name_, path);
  return program;
}

std::string Program::type() const {
  const char *name = libbpf_bpf_prog_type_str(static_cast<bpf_prog_type>(type_));
  return name ? name : std::to_string(type_);
}

void Program::pin(const std::string &path) const {
  baton::pin(fd_.get(), path);
}

// A syscall program takes nothing but a context, and the kernel writes that back in place.
TestRunResult Program::run_syscall(Span context) const {
  TestRunResult result;
  Bytes bytes(context.data, context.data + context.size);
  LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = bytes.data(), .ctx_size_in = static_cast<uint32_t>(bytes.size()));
  const int err = bpf_prog_test_run_opts(fd_.get(), &run);
  if (err) fail(err, "BPF_PROG_TEST_RUN", name_);
  result.retval = run.retval;
  result.context_out = std::move(bytes);
  return result;
}

TestRunResult Program::test_run(const TestRunOptions &options) const {
  if (type_ == BPF_PROG_TYPE_SYSCALL) return run_syscall(options.context.value_or(Span{}));
  if (!options.data) refuse("EINVAL", "BPF_PROG_TEST_RUN", name_, "it needs data");
  TestRunResult result;
  Bytes context;
  if (options.context) {
    context.assign(options.context->data, options.context->data + options.context->size);
  } else if (options.ingress_ifindex) {
    context = context_for(type_, options);
  }
  result.data_out.resize(options.data->size + kGrowth);
  Bytes context_out(context.size());
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = options.data->data, .data_out = result.data_out.data(),
              .data_size_in = static_cast<uint32_t>(options.data->size),
              .data_size_out = static_cast<uint32_t>(result.data_out.size()), );
  if (!context.empty()) {
    run.ctx_in = context.data();
    run.ctx_size_in = static_cast<uint32_t>(context.size());
    run.ctx_out = context_out.data();
    run.ctx_size_out = static_cast<uint32_t>(context_out.size());
  }
  run.repeat = static_cast<int>(options.repeat);
  const int err = bpf_prog_test_run_opts(fd_.get(), &run);
  if (err) fail(err, "BPF_PROG_TEST_RUN", name_);
  result.retval = run.retval;
  result.duration_ns = run.duration;
  result.data_out.resize(run.data_size_out);
  if (!context.empty()) {
    context_out.resize(run.ctx_size_out);
    result.context_out = std::move(context_out);
  }
  return result;
}

} // namespace baton
