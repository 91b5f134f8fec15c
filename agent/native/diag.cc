#include "diag.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <unordered_set>

#include "descriptor.h"
#include "failure.h"

namespace {

constexpr uint8_t LISTEN = 10; // net/tcp_states.h
constexpr uint32_t ALL_BUT_LISTEN = ~(1u << LISTEN);
constexpr size_t ANSWER_BYTES = 64 << 10;

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

Request request(uint16_t type, uint16_t flags, int family) {
  Request request{};
  request.header = {.nlmsg_len = sizeof request, .nlmsg_type = type, .nlmsg_flags = uint16_t(NLM_F_REQUEST | flags)};
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = ALL_BUT_LISTEN;
  request.body.id.idiag_cookie[0] = request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return request;
}

/** One netlink conversation at a time: a request, then its answers. */
class Diag {
 public:
  Diag() : socket_(check(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), "diag", "socket")) {}

  /** Calls `each` for every socket in the answer. @returns 0 or the errno that the kernel answered. */
  template <typename Each> int ask(const Request &request, Each each) {
    check(::send(socket_.get(), &request, sizeof request, 0), "diag", "send");
    alignas(nlmsghdr) char answer[ANSWER_BYTES];
    for (;;) {
      ssize_t length = check(recv(socket_.get(), answer, sizeof answer, 0), "diag", "recv");
      for (auto message = reinterpret_cast<nlmsghdr *>(answer); NLMSG_OK(message, length);
           message = NLMSG_NEXT(message, length)) {
        if (message->nlmsg_type == NLMSG_DONE) return 0;
        if (message->nlmsg_type == NLMSG_ERROR) return -static_cast<nlmsgerr *>(NLMSG_DATA(message))->error;
        each(*static_cast<inet_diag_msg *>(NLMSG_DATA(message)));
        if (!(message->nlmsg_flags & NLM_F_MULTI)) endsWithoutAck_ = true;
      }
      if (std::exchange(endsWithoutAck_, false) && !(request.header.nlmsg_flags & NLM_F_ACK)) return 0;
    }
  }

  /** @returns whether it was still there. */
  bool destroy(const inet_diag_msg &found) {
    Request kill = request(SOCK_DESTROY, NLM_F_ACK, found.idiag_family);
    kill.body.id = found.id;
    int error = ask(kill, [](const inet_diag_msg &) {});
    if (error == ENOENT) return false;
    if (error != 0) throw Failure(error, "destroy", "sock_diag(SOCK_DESTROY)");
    return true;
  }

 private:
  Descriptor socket_;
  bool endsWithoutAck_ = false;
};

/** Inodes of all sockets that this process has open. */
std::unordered_set<uint32_t> ownInodes() {
  std::unordered_set<uint32_t> inodes;
  Folder folder(opendir("/proc/self/fd"));
  if (!folder) throw Failure(errno, "diag", "opendir", "/proc/self/fd");
  while (dirent *entry = readdir(folder.get())) {
    char target[64];
    ssize_t length = readlinkat(dirfd(folder.get()), entry->d_name, target, sizeof target - 1);
    if (length <= 0) continue;
    target[length] = 0;
    unsigned inode;
    if (sscanf(target, "socket:[%u]", &inode) == 1) inodes.insert(inode);
  }
  return inodes;
}

bool isAt(const inet_diag_msg &found, const Address &local) {
  return found.idiag_family == local.family() && ntohs(found.id.idiag_sport) == local.port() &&
         memcmp(found.id.idiag_src, local.bytes(), local.size()) == 0;
}

} // namespace

size_t destroyOrphans(const std::vector<Address> &local) {
  const auto own = ownInodes();
  Diag diag;
  std::vector<inet_diag_msg> orphans;
  for (const Address &address : local) {
    Request dump = request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, address.family());
    dump.body.id.idiag_sport = htons(address.port());
    int error = diag.ask(dump, [&](const inet_diag_msg &found) {
      // An orphan has inode 0; one with another inode belongs to another process.
      if (isAt(found, address) && found.idiag_state != LISTEN && !own.count(found.idiag_inode)) {
        orphans.push_back(found);
      }
    });
    if (error != 0) throw Failure(error, "dump", "sock_diag(SOCK_DIAG_BY_FAMILY)", address.text());
  }
  size_t destroyed = 0;
  for (const inet_diag_msg &orphan : orphans)
    destroyed += diag.destroy(orphan);
  return destroyed;
}

bool destroyOrphan(const Endpoints &ends) {
  Diag diag;
  Request lookup = request(SOCK_DIAG_BY_FAMILY, 0, ends.local.family());
  lookup.body.id.idiag_sport = htons(ends.local.port());
  lookup.body.id.idiag_dport = htons(ends.remote.port());
  memcpy(lookup.body.id.idiag_src, ends.local.bytes(), ends.local.size());
  memcpy(lookup.body.id.idiag_dst, ends.remote.bytes(), ends.remote.size());
  // Looked up first, because without the connection the kernel finds its listener, and would destroy that.
  inet_diag_msg orphan{};
  int error = diag.ask(lookup, [&](const inet_diag_msg &found) { orphan = found; });
  if (error == ENOENT) return false;
  if (error != 0) throw Failure(error, "lookup", "sock_diag(SOCK_DIAG_BY_FAMILY)", ends.text());
  if (orphan.idiag_state == LISTEN || orphan.id.idiag_dport != lookup.body.id.idiag_dport) return false;
  if (orphan.idiag_inode != 0 && ownInodes().count(orphan.idiag_inode)) return false;
  return diag.destroy(orphan);
}
