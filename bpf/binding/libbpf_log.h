// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace baton {

/** While one lives on this thread it takes what libbpf has to say; otherwise libbpf says nothing at all. */
class LibbpfLog {
 public:
  LibbpfLog();
  ~LibbpfLog();
  LibbpfLog(const LibbpfLog &) = delete;
  LibbpfLog &operator=(const LibbpfLog &) = delete;

  /** The last lines (64 KiB at most): the verifier's verdict stands at the end. */
  std::string tail() const;
  void append(const char *text, size_t length);

 private:
  std::string text_;
  LibbpfLog *outer_;
};

} // namespace baton
