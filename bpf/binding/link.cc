// SPDX-License-Identifier: Apache-2.0
#include "link.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sys/stat.h>

#include <cerrno>

#include "error.h"
#include "pin.h"

namespace baton {
namespace {

// enum bpf_attach_type, Linux 6.6; the headers of Debian 12 end before them.
constexpr int kTcxIngress = 46;
constexpr int kTcxEgress = 47;

struct Target {
  int id;         // interface index or descriptor of the cgroup
  uint64_t known; // as the kernel names it in bpf_link_info: interface index or cgroup id
  std::string name;
  bpf_attach_type type;
  uint32_t flags;
};

/** What the link is attached to: an interface index or a cgroup id; 0 if that is gone. */
uint64_t target_of(int link, const Target &target) {
  struct bpf_link_info info = {};
  uint32_t length = sizeof info;
  const int err = bpf_obj_get_info_by_fd(link, &info, &length);
  if (err) fail(err, "BPF_OBJ_GET_INFO_BY_FD", target.name);
  // tcx and xdp have the interface index at the same place.
  return target.type == BPF_CGROUP_SOCK_OPS ? info.cgroup.cgroup_id : info.xdp.ifindex;
}

Fd create(int program, const Target &target) {
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = target.flags);
  const int fd = bpf_link_create(program, target.id, target.type, &options);
  if (fd < 0) fail(fd, "BPF_LINK_CREATE", target.name);
  return Fd(fd);
}

std::shared_ptr<Link> attach(int program, const Target &target, const std::string &path) {
  if (path.empty()) return std::make_shared<Link>(create(program, target), path);
  if (pinned(path)) {
    Fd link = open_pinned(path, PinKind::kLink);
    const uint64_t there = target_of(link.get(), target);
    if (there == target.known) {
      const int err = bpf_link_update(link.get(), program, nullptr);
      if (err) fail(err, "BPF_LINK_UPDATE", path);
      return std::make_shared<Link>(std::move(link), path);
    }
    if (there != 0) refuse("EEXIST", "BPF_LINK_UPDATE", path, "the link pinned there belongs to another target");
    // The interface or cgroup was deleted and made anew: the pin is a leftover.
    if (unlink(path.c_str())) fail(errno, "unlink", path);
  }
  Fd link = create(program, target);
  pin(link.get(), path);
  return std::make_shared<Link>(std::move(link), path);
}

} // namespace

int interface_index(const std::string &ifname) {
  const unsigned index = if_nametoindex(ifname.c_str());
  if (!index) fail(ENODEV, "if_nametoindex", ifname);
  return static_cast<int>(index);
}

void Link::detach() {
  if (!fd_.open()) refuse("EBADF", "BPF_LINK_DETACH", pin_, "it is closed");
  if (!pin_.empty() && unlink(pin_.c_str()) && errno != ENOENT) fail(errno, "unlink", pin_);
  const int err = bpf_link_detach(fd_.get());
  fd_.reset();
  // Tracing links know no detach: they end with their last descriptor.
  if (err && err != -EOPNOTSUPP) fail(err, "BPF_LINK_DETACH", pin_);
}

std::shared_ptr<Link> attach_xdp(int program, const std::string &ifname, bool generic, const std::string &pin) {
  const int index = interface_index(ifname);
  const uint32_t mode = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
  return attach(program, {index, static_cast<uint64_t>(index), ifname, BPF_XDP, mode}, pin);
}

std::shared_ptr<Link> attach_tcx(int program, const std::string &ifname, bool ingress, const std::string &pin) {
  const int index = interface_index(ifname);
  const auto type = static_cast<bpf_attach_type>(ingress ? kTcxIngress : kTcxEgress);
  return attach(program, {index, static_cast<uint64_t>(index), ifname, type, 0}, pin);
}

std::shared_ptr<Link> attach_sock_ops(int program, const std::string &cgroup, const std::string &pin) {
  Fd folder(open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.open()) fail(errno, "open", cgroup);
  struct stat status = {};
  if (fstat(folder.get(), &status)) fail(errno, "fstat", cgroup);
  return attach(program, {folder.get(), status.st_ino, cgroup, BPF_CGROUP_SOCK_OPS, 0}, pin);
}

std::shared_ptr<Link> attach_tracing(int program, const std::string &name, const std::string &path) {
  const int fd = bpf_raw_tracepoint_open(nullptr, program);
  if (fd < 0) fail(fd, "BPF_RAW_TRACEPOINT_OPEN", name);
  Fd link(fd);
  if (!path.empty()) {
    if (pinned(path))
      replace_pin(link.get(), path);
    else
      pin(link.get(), path);
  }
  return std::make_shared<Link>(std::move(link), path);
}

} // namespace baton
