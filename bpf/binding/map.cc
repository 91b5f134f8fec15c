// SPDX-License-Identifier: Apache-2.0
#include "map.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.h"
#include "pin.h"

namespace baton {
namespace {

constexpr uint32_t kBatch = 4096;
constexpr int kEnotsupp = 524;

/** What the kernel says if a map type has no such batch operation. */
bool no_batch(int err) {
  return err == -kEnotsupp || err == -EOPNOTSUPP || err == -EINVAL;
}

} // namespace

int possible_cpus() {
  static const int count = libbpf_num_possible_cpus();
  if (count < 0) fail(count, "open", "/sys/devices/system/cpu/possible");
  return count;
}

Map::Map(Fd fd, const std::string &name) : fd_(std::move(fd)), name_(name) {
  struct bpf_map_info info = {};
  uint32_t length = sizeof info;
  const int err = bpf_obj_get_info_by_fd(fd_.get(), &info, &length);
  if (err) fail(err, "BPF_OBJ_GET_INFO_BY_FD", name);
  if (name_.empty()) name_ = info.name;
  type_ = info.type;
  key_size_ = info.key_size;
  value_size_ = info.value_size;
  max_entries_ = info.max_entries;
}

std::shared_ptr<Map> Map::open_pinned(const std::string &path) {
  auto map = std::make_shared<Map>(baton::open_pinned(path, PinKind::kMap), "");
  map->name_ = name_of_pin(map->name_, path);
  return map;
}

int Map::fd() const {
  if (!fd_.open()) refuse("EBADF", "map", name_, "it is closed");
  return fd_.get();
}

bool Map::per_cpu() const {
  return type_ == BPF_MAP_TYPE_PERCPU_HASH || type_ == BPF_MAP_TYPE_PERCPU_ARRAY ||
         type_ == BPF_MAP_TYPE_LRU_PERCPU_HASH || type_ == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}

// The kernel gives each CPU's value a multiple of eight bytes; outside of here there is no such padding.
size_t Map::kernel_value_size() const {
  return per_cpu() ? (value_size_ + 7) / 8 * 8 * static_cast<size_t>(possible_cpus()) : value_size_;
}

size_t Map::user_value_size() const {
  return per_cpu() ? value_size_ * static_cast<size_t>(possible_cpus()) : value_size_;
}

Bytes Map::to_kernel(const uint8_t *value, size_t size) const {
  if (!per_cpu()) return Bytes(value, value + size);
  Bytes out(kernel_value_size());
  const size_t stride = (value_size_ + 7) / 8 * 8;
  // One value alone is every CPU's value.
  const size_t step = size == value_size_ ? 0 : value_size_;
  for (int cpu = 0; cpu < possible_cpus(); cpu++)
    memcpy(&out[cpu * stride], value + cpu * step, value_size_);
  return out;
}

Bytes Map::to_user(const uint8_t *value) const {
  if (!per_cpu()) return Bytes(value, value + value_size_);
  Bytes out(user_value_size());
  const size_t stride = (value_size_ + 7) / 8 * 8;
  for (int cpu = 0; cpu < possible_cpus(); cpu++)
    memcpy(&out[cpu * value_size_], value + cpu * stride, value_size_);
  return out;
}

void Map::check_key(Span key, const char *call) const {
  if (key.size != key_size_)
    refuse("EINVAL", call, name_, "a key has " + std::to_string(key_size_) + " bytes, not " + std::to_string(key.size));
}

std::optional<Bytes> Map::lookup(Span key) const {
  check_key(key, "BPF_MAP_LOOKUP_ELEM");
  Bytes value(kernel_value_size());
  const int err = bpf_map_lookup_elem(fd(), key.data, value.data());
  if (err == -ENOENT) return std::nullopt;
  if (err) fail(err, "BPF_MAP_LOOKUP_ELEM", name_);
  return per_cpu() ? to_user(value.data()) : value;
}

void Map::update(Span key, Span value, uint64_t flags) const {
  check_key(key, "BPF_MAP_UPDATE_ELEM");
  if (value.size != user_value_size() && value.size != value_size_)
    refuse("EINVAL", "BPF_MAP_UPDATE_ELEM", name_,
           "a value has " + std::to_string(user_value_size()) + " bytes, not " + std::to_string(value.size));
  const int err = per_cpu() ? bpf_map_update_elem(fd(), key.data, to_kernel(value.data, value.size).data(), flags)
                            : bpf_map_update_elem(fd(), key.data, value.data, flags);
  if (err) fail(err, "BPF_MAP_UPDATE_ELEM", name_);
}

bool Map::remove(Span key) const {
  check_key(key, "BPF_MAP_DELETE_ELEM");
  const int err = bpf_map_delete_elem(fd(), key.data);
  if (err == -ENOENT) return false;
  if (err) fail(err, "BPF_MAP_DELETE_ELEM", name_);
  return true;
}

uint32_t Map::update_batch(Span keys, Span values, uint64_t flags) const {
  const size_t count = key_size_ ? keys.size / key_size_ : 0;
  if (!key_size_ || keys.size % key_size_ || values.size != count * user_value_size())
    refuse("EINVAL", "BPF_MAP_UPDATE_BATCH", name_, "keys and values do not go together");
  size_t done = 0;
  // The kernel's batch knows no BPF_NOEXIST and BPF_EXIST; per-CPU values would have to be spread out first.
  if (!per_cpu() && (flags & ~static_cast<uint64_t>(BPF_F_LOCK)) == 0) {
    while (done < count) {
      LIBBPF_OPTS(bpf_map_batch_opts, options, .elem_flags = flags);
      uint32_t part = static_cast<uint32_t>(std::min<size_t>(count - done, 65536));
      const int err =
          bpf_map_update_batch(fd(), keys.data + done * key_size_, values.data + done * value_size_, &part, &options);
      if (err && done == 0 && no_batch(err)) break;
      done += part;
      if (err)
        fail(err, "BPF_MAP_UPDATE_BATCH", name_ + " at entry " + std::to_string(done) + " of " + std::to_string(count));
    }
  }
  for (; done < count; done++) {
    update({keys.data + done * key_size_, key_size_}, {values.data + done * user_value_size(), user_value_size()},
           flags);
  }
  return static_cast<uint32_t>(done);
}

uint32_t Map::remove_batch(Span keys) const {
  if (!key_size_ || keys.size % key_size_) refuse("EINVAL", "BPF_MAP_DELETE_BATCH", name_, "no whole number of keys");
  const size_t count = keys.size / key_size_;
  size_t at = 0;
  uint32_t removed = 0;
  bool batches = true;
  while (at < count) {
    if (!batches) {
      removed += remove({keys.data + at++ * key_size_, key_size_});
      continue;
    }
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    uint32_t part = static_cast<uint32_t>(std::min<size_t>(count - at, 65536));
    const int err = bpf_map_delete_batch(fd(), keys.data + at * key_size_, &part, &options);
    if (err && at == 0 && no_batch(err)) {
      batches = false;
      continue;
    }
    at += part;
    removed += part;
    if (err == -ENOENT)
      at++;
    else if (err)
      fail(err, "BPF_MAP_DELETE_BATCH", name_);
  }
  return removed;
}

std::vector<std::pair<Bytes, Bytes>> Map::entries() const {
  std::vector<std::pair<Bytes, Bytes>> out;
  const size_t value_size = kernel_value_size();
  uint32_t size = std::min<uint32_t>(kBatch, max_entries_);
  // A hash map's position is a bucket number, other types' the last key.
  Bytes position(std::max<size_t>(key_size_, 8)), next(position.size());
  bool first = true;
  // Each round either ends it, moves on by at least an entry, or doubles the buffer: it ends.
  for (;;) {
    Bytes keys(static_cast<size_t>(size) * key_size_), values(size * value_size);
    uint32_t count = size;
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    const int err = bpf_map_lookup_batch(fd(), first ? nullptr : position.data(), next.data(), keys.data(),
                                         values.data(), &count, &options);
    if (err == -ENOSPC && size < 2 * static_cast<uint64_t>(max_entries_)) {
      // One bucket has more entries than the buffer. Nothing was taken, the position still stands.
      size *= 2;
      continue;
    }
    if (err && err != -ENOENT) {
      if (first && no_batch(err)) return entries_one_by_one();
      fail(err, "BPF_MAP_LOOKUP_BATCH", name_);
    }
    for (uint32_t i = 0; i < count; i++) {
      out.emplace_back(Bytes(&keys[i * key_size_], &keys[i * key_size_] + key_size_), to_user(&values[i * value_size]));
    }
    if (err == -ENOENT) return out;
    position = next;
    first = false;
  }
}

std::vector<std::pair<Bytes, Bytes>> Map::entries_one_by_one() const {
  std::vector<std::pair<Bytes, Bytes>> out;
  Bytes key(key_size_), next(key_size_);
  const uint8_t *at = nullptr;
  // When the entry at `at` is deleted meanwhile the kernel starts again: hence the bound.
  for (uint32_t i = 0; i < max_entries_; i++) {
    const int err = bpf_map_get_next_key(fd(), at, next.data());
    if (err == -ENOENT) break;
    if (err) fail(err, "BPF_MAP_GET_NEXT_KEY", name_);
    key = next;
    at = key.data();
    if (auto value = lookup({key.data(), key.size()})) out.emplace_back(key, std::move(*value));
  }
  return out;
}

void Map::pin(const std::string &path) const {
  baton::pin(fd(), path);
}

} // namespace baton
