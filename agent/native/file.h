#pragma once

#include <string>

#include "descriptor.h"
#include "failure.h"

/** Opens a regular file for reading, without ever waiting for a FIFO's writer. @throws Failure: EISDIR, EINVAL for
 * others */
int openFile(const std::string &path);
