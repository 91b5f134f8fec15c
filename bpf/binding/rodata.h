// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "object.h"

struct bpf_object;

namespace baton {

/** Writes the values of `const volatile` variables, found by name through the BTF of .rodata, before the load. */
void set_rodata(bpf_object *object, const std::string &path, const std::map<std::string, RodataValue> &values);

} // namespace baton
