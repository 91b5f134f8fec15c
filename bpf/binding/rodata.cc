// SPDX-License-Identifier: Apache-2.0
#include "rodata.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include <cstring>

#include "error.h"

namespace baton {
namespace {

struct Variable {
  uint8_t *at;
  size_t size;
};

bool ends_with(const std::string &text, const std::string &end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/** The map that libbpf makes of a section: ".rodata" is called "<object>.rodata", others by their own names. */
bpf_map *map_of_section(bpf_object *object, const std::string &section) {
  bpf_map *map;
  bpf_object__for_each_map(map, object) {
    if (ends_with(bpf_map__name(map), section)) return map;
  }
  return nullptr;
}

std::map<std::string, Variable> variables(bpf_object *object) {
  std::map<std::string, Variable> found;
  const btf *types = bpf_object__btf(object);
  if (!types) return found;
  for (uint32_t id = 1; id < btf__type_cnt(types); id++) {
    const btf_type *section = btf__type_by_id(types, id);
    if (!btf_is_datasec(section)) continue;
    const std::string name = btf__name_by_offset(types, section->name_off);
    if (name.rfind(".rodata", 0) != 0) continue;
    bpf_map *map = map_of_section(object, name);
    if (!map) continue;
    size_t size = 0;
    auto *start = static_cast<uint8_t *>(const_cast<void *>(bpf_map__initial_value(map, &size)));
    if (!start) continue;
    const btf_var_secinfo *entry = btf_var_secinfos(section);
    for (uint16_t i = 0; i < btf_vlen(section); i++, entry++) {
      const btf_type *variable = btf__type_by_id(types, entry->type);
      // Offsets of static variables are not reliable before linking, and they are nobody's knobs.
      if (btf_var(variable)->linkage == BTF_VAR_STATIC || entry->offset + entry->size > size) continue;
      found[btf__name_by_offset(types, variable->name_off)] = {start + entry->offset, entry->size};
    }
  }
  return found;
}

bool fits(const Scalar &value, size_t size) {
  if (size >= 8) return true;
  const int bits = static_cast<int>(size) * 8;
  if (value.negative) return static_cast<int64_t>(value.bits) >= -(int64_t{1} << (bits - 1));
  return value.bits >> bits == 0;
}

} // namespace

void set_rodata(bpf_object *object, const std::string &path, const std::map<std::string, RodataValue> &values) {
  const auto known = variables(object);
  for (const auto &[name, value] : values) {
    const auto found = known.find(name);
    if (found == known.end()) refuse("ENOENT", "rodata", name, "no such const volatile variable in " + path);
    const Variable &variable = found->second;
    if (const auto *bytes = std::get_if<Bytes>(&value)) {
      if (bytes->size() != variable.size)
        refuse("EINVAL", "rodata", name,
               "it has " + std::to_string(variable.size) + " bytes, not " + std::to_string(bytes->size()));
      memcpy(variable.at, bytes->data(), variable.size);
      continue;
    }
    const Scalar &scalar = std::get<Scalar>(value);
    if (variable.size != 1 && variable.size != 2 && variable.size != 4 && variable.size != 8)
      refuse("EINVAL", "rodata", name, "it is no number, it has " + std::to_string(variable.size) + " bytes");
    if (!fits(scalar, variable.size))
      refuse("ERANGE", "rodata", name, "the value has more than " + std::to_string(variable.size) + " bytes");
    memcpy(variable.at, &scalar.bits, variable.size);
  }
}

} // namespace baton
