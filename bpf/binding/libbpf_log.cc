// SPDX-License-Identifier: Apache-2.0
#include "libbpf_log.h"

#include <bpf/libbpf.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace baton {
namespace {

constexpr size_t kTail = 64 * 1024;
thread_local LibbpfLog *current = nullptr;

int print(enum libbpf_print_level level, const char *format, va_list arguments) {
  if (!current || level == LIBBPF_DEBUG) return 0;
  char *text = nullptr;
  int length = vasprintf(&text, format, arguments);
  if (length > 0) current->append(text, static_cast<size_t>(length));
  if (length >= 0) free(text);
  return length;
}

std::once_flag installed;

} // namespace

LibbpfLog::LibbpfLog() : outer_(current) {
  std::call_once(installed, [] { libbpf_set_print(print); });
  current = this;
}

LibbpfLog::~LibbpfLog() {
  current = outer_;
}

void LibbpfLog::append(const char *text, size_t length) {
  text_.append(text, length);
  if (text_.size() > 4 * kTail) text_.erase(0, text_.size() - kTail);
}

std::string LibbpfLog::tail() const {
  if (text_.size() <= kTail) return text_;
  std::string tail = text_.substr(text_.size() - kTail);
  return tail.substr(tail.find('\n') + 1);
}

} // namespace baton
