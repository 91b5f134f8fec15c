#include "descriptors.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "failure.h"

namespace {

constexpr size_t DESCRIPTORS_MAX = 253;   // SCM_MAX_FD, include/net/scm.h
constexpr size_t MESSAGE_MAX = 128 << 10; // below the system's default send buffer
constexpr int PEERS_MAX = 64;
constexpr int BACKLOG = 64;
constexpr timeval SEND_TIMEOUT = {.tv_sec = 1};

sockaddr_un unixAddress(const std::string &path) {
  sockaddr_un address{.sun_family = AF_UNIX};
  if (path.size() >= sizeof address.sun_path) throw Failure(ENAMETOOLONG, "descriptors", "bind", path);
  memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Descriptor openSocket(int flags) {
  return Descriptor(check(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0), "descriptors", "socket"));
}

} // namespace

void sendDescriptors(const std::string &path, const std::vector<int> &fds, const std::string &message) {
  if (fds.size() > DESCRIPTORS_MAX || message.empty() || message.size() > MESSAGE_MAX) {
    throw Failure(EMSGSIZE, "descriptors", "sendmsg", path);
  }
  Descriptor socket = openSocket(0);
  check(setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &SEND_TIMEOUT, sizeof SEND_TIMEOUT), "descriptors",
        "setsockopt(SO_SNDTIMEO)");
  sockaddr_un address = unixAddress(path);
  check(connect(socket.get(), reinterpret_cast<sockaddr *>(&address), sizeof address), "descriptors", "connect", path);

  alignas(cmsghdr) char control[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))] = {};
  iovec data{const_cast<char *>(message.data()), message.size()};
  msghdr header{.msg_iov = &data, .msg_iovlen = 1};
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr *rights = CMSG_FIRSTHDR(&header);
    *rights = {.cmsg_len = CMSG_LEN(fds.size() * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(rights), fds.data(), fds.size() * sizeof(int));
  }
  check(sendmsg(socket.get(), &header, MSG_NOSIGNAL), "descriptors", "sendmsg", path);
}

DescriptorReceiver::DescriptorReceiver(Loop &loop, std::string path, Receive receive)
    : loop_(loop), path_(std::move(path)), receive_(std::move(receive)) {
  Descriptor opened = openSocket(SOCK_NONBLOCK);
  sockaddr_un address = unixAddress(path_);
  unlink(path_.c_str());
  check(bind(opened.get(), reinterpret_cast<sockaddr *>(&address), sizeof address), "descriptors", "bind", path_);
  check(listen(opened.get(), BACKLOG), "descriptors", "listen", path_);
  watcher_ = Watcher::open(loop_, opened.get(), [this](int) { accept(); });
  watcher_->start();
  socket_ = std::move(opened);
}

void DescriptorReceiver::close() {
  if (!socket_) return;
  watcher_->close();
  while (!peers_.empty())
    drop(peers_.begin()->first);
  socket_.reset();
  unlink(path_.c_str());
}

void DescriptorReceiver::accept() {
  Descriptor peer(accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  // One too many is sent away: its sender is done by then or sees EPIPE.
  if (!peer || peers_.size() >= PEERS_MAX) return;
  int fd = peer.get();
  Watcher *watcher = Watcher::open(loop_, fd, [this, fd](int) { read(fd); });
  watcher->start();
  peers_.emplace(peer.release(), watcher);
}

void DescriptorReceiver::drop(int fd) {
  auto found = peers_.find(fd);
  found->second->close();
  peers_.erase(found);
  ::close(fd);
}

void DescriptorReceiver::read(int fd) {
  std::string message(MESSAGE_MAX, '\0');
  alignas(cmsghdr) char control[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
  iovec data{message.data(), message.size()};
  msghdr header{.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t length = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
  if (length < 0 && (errno == EAGAIN || errno == EINTR)) return;
  std::vector<int> fds;
  for (cmsghdr *part = length > 0 ? CMSG_FIRSTHDR(&header) : nullptr; part; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    size_t before = fds.size();
    fds.resize(before + count);
    memcpy(fds.data() + before, CMSG_DATA(part), count * sizeof(int));
  }
  drop(fd);
  if (length <= 0) return;
  message.resize(length);
  receive_(std::move(fds), std::move(message));
}
