#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "descriptor.h"
#include "failure.h"

/** Opens a regular file for reading, without ever waiting for a FIFO's writer. @throws Failure: EISDIR, EINVAL for
 * others */
int openFile(const std::string &path);

/** A file without a name, in memory: `length` bytes at `position`, a hole before. @throws Failure */
int memoryFile(const void *bytes, size_t length, int64_t position);
