#pragma once

#include <sys/socket.h>

#include "failure.h"

/** Sets an integer socket option; `step` and `name` go into the Failure. */
inline void setOption(int fd, int level, int option, int value, const char *step, const char *name) {
  check(setsockopt(fd, level, option, &value, sizeof value), step, name);
}

inline int getOption(int fd, int level, int option, const char *step, const char *name) {
  int value = 0;
  socklen_t length = sizeof value;
  check(getsockopt(fd, level, option, &value, &length), step, name);
  return value;
}
