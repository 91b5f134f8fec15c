// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "fd.h"

namespace baton {

enum class PinKind { kMap, kProgram, kLink };

/** Pins under bpffs, making the folders on the way. @throws Error (EEXIST if something is pinned there) */
void pin(int fd, const std::string &path);

/** Puts `fd` where another object is pinned, without an instant at which nothing is. */
void replace_pin(int fd, const std::string &path);

/** @throws Error ENOENT, or EINVAL if something of another kind is pinned there */
Fd open_pinned(const std::string &path, PinKind kind);

bool pinned(const std::string &path);

/**
 * A kernel object's name has 15 characters at most, a pin is usually called by the whole name.
 * @returns the pin's last part if `kernel_name` may be its beginning, else `kernel_name`
 */
std::string name_of_pin(const std::string &kernel_name, const std::string &path);

} // namespace baton
