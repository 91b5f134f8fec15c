// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "fd.h"

namespace baton {

/** A program's attachment (bpf_link). Pinned ones outlive the process, others end with close(). */
class Link {
 public:
  Link(Fd fd, std::string pin) : fd_(std::move(fd)), pin_(std::move(pin)) {}

  /** Removes the pin and takes the program off, whoever else still holds the link. */
  void detach();
  void close() { fd_.reset(); }

 private:
  Fd fd_;
  std::string pin_;
};

/**
 * @param pin a path, or "" for none. If a link is pinned there it is adopted and the program swapped in at once, so
 * that no packet passes in between. A link whose interface is gone is replaced.
 */
std::shared_ptr<Link> attach_xdp(int program, const std::string &ifname, bool generic, const std::string &pin);
std::shared_ptr<Link> attach_tcx(int program, const std::string &ifname, bool ingress, const std::string &pin);
/** sock_ops on a cgroup v2 folder. */
std::shared_ptr<Link> attach_sock_ops(int program, const std::string &cgroup, const std::string &pin);
/**
 * tp_btf. Such a link cannot be given another program: the new one is attached, takes over the pin, and the old one
 * goes with its last descriptor. For that instant both run.
 */
std::shared_ptr<Link> attach_tracing(int program, const std::string &name, const std::string &pin);

/** @throws Error ENODEV */
int interface_index(const std::string &ifname);

} // namespace baton
