#pragma once

#include <string>

#include "descriptor.h"

/** A descriptor that becomes readable when the process ends (pidfd_open(2)). @throws Failure ESRCH */
Descriptor openProcess(int pid);

/**
 * SCHED_RR for every thread of the process, but not for those that were made nice on purpose; threads created later
 * inherit it.
 * @returns false where it is not permitted.
 */
bool setRealtime(int priority);

/** Moves the whole process into the cgroup, which is made if it is missing. @throws Failure */
void joinCgroup(const std::string &path);
