#pragma once

#include <string>

#include "descriptor.h"

/** A descriptor that becomes readable when the process ends (pidfd_open(2)). @throws Failure ESRCH */
Descriptor openProcess(int pid);

/**
 * Starts a thread that does nothing, at real-time priority. Killing a process wakes all its threads, and the last one
 * to go takes the memory down, which takes tens of milliseconds on a busy machine: this one is gone at once.
 * @returns its thread id. @throws Failure
 */
int startCanary();

/** A descriptor that becomes readable when that thread ends (PIDFD_THREAD, Linux 6.9). @throws Failure ESRCH, EINVAL */
Descriptor openThread(int thread);

/**
 * SCHED_RR for every thread of the process, but not for those that were made nice on purpose; threads created later
 * inherit it.
 * @returns false where it is not permitted.
 */
bool setRealtime(int priority);

/** Moves the whole process into the cgroup, which is made if it is missing. @throws Failure */
void joinCgroup(const std::string &path);
