// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "map.h"
#include "program.h"

namespace baton {

/** A `const volatile` variable's value. Signed numbers come as their two's complement in `bits`. */
struct Scalar {
  uint64_t bits;
  bool negative;
};
using RodataValue = std::variant<Scalar, Bytes>;

struct LoadOptions {
  std::map<std::string, RodataValue> rodata;
  std::string pin_dir;
  std::vector<std::string> pin_maps;
  std::map<std::string, uint32_t> max_entries;
  std::vector<std::string> skip;
};

/** What came out of a BPF object file. Maps and programs live on by themselves; libbpf's own object ends with the load.
 */
struct Object {
  std::string path;
  std::vector<std::shared_ptr<Map>> maps;
  std::vector<std::shared_ptr<Program>> programs;
};

/** @throws Error; `log` has libbpf's and the verifier's last lines */
std::shared_ptr<Object> load(const std::string &path, const LoadOptions &options);

} // namespace baton
