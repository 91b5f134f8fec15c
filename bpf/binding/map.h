// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fd.h"

namespace baton {

using Bytes = std::vector<uint8_t>;

/** A view of somebody else's bytes. */
struct Span {
  const uint8_t *data = nullptr;
  size_t size = 0;
};

int possible_cpus();

/** A BPF map by its descriptor. Values of per-CPU maps are all possible CPUs' values, `value_size` bytes each. */
class Map {
 public:
  Map(Fd fd, const std::string &name);
  static std::shared_ptr<Map> open_pinned(const std::string &path);

  const std::string &name() const { return name_; }
  uint32_t key_size() const { return key_size_; }
  uint32_t value_size() const { return value_size_; }
  uint32_t max_entries() const { return max_entries_; }
  uint32_t type() const { return type_; }
  /** @throws Error EBADF after close() */
  int fd() const;
  void close() { fd_.reset(); }

  std::optional<Bytes> lookup(Span key) const;
  void update(Span key, Span value, uint64_t flags) const;
  bool remove(Span key) const;
  /** @returns how many were written: all, or it throws */
  uint32_t update_batch(Span keys, Span values, uint64_t flags) const;
  /** @returns how many there were; missing keys are passed over */
  uint32_t remove_batch(Span keys) const;
  std::vector<std::pair<Bytes, Bytes>> entries() const;
  void pin(const std::string &path) const;

 private:
  bool per_cpu() const;
  size_t kernel_value_size() const;
  size_t user_value_size() const;
  Bytes to_kernel(const uint8_t *value, size_t size) const;
  Bytes to_user(const uint8_t *value) const;
  void check_key(Span key, const char *call) const;
  std::vector<std::pair<Bytes, Bytes>> entries_one_by_one() const;

  Fd fd_;
  std::string name_;
  uint32_t type_ = 0, key_size_ = 0, value_size_ = 0, max_entries_ = 0;
};

} // namespace baton
