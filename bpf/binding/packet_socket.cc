// SPDX-License-Identifier: Apache-2.0
#include "packet_socket.h"

#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.h"
#include "link.h"

namespace baton {
namespace {

// Packets that wait in the interface's queue count against it: far below a queue of 20,000 packets, so that the socket
// says EAGAIN before the queue drops anything.
constexpr int kSendBuffer = 4 << 20;

} // namespace

PacketSocket::PacketSocket(const std::string &interface) {
  const int index = interface_index(interface);
  // Protocol 0: nothing is ever received.
  fd_ = Fd(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd_.open()) fail(errno, "socket", "AF_PACKET");
  struct sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = index;
  if (bind(fd_.get(), reinterpret_cast<struct sockaddr *>(&address), sizeof address)) fail(errno, "bind", interface);
  if (setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &kSendBuffer, sizeof kSendBuffer))
    fail(errno, "setsockopt", "SO_SNDBUFFORCE");
  struct ifreq request = {};
  strncpy(request.ifr_name, interface.c_str(), IFNAMSIZ - 1);
  if (ioctl(fd_.get(), SIOCGIFHWADDR, &request)) fail(errno, "SIOCGIFHWADDR", interface);
  memcpy(mac_.data(), request.ifr_hwaddr.sa_data, mac_.size());
}

PacketSocket::Sent PacketSocket::send(const Span *frames, size_t count) {
  std::array<struct mmsghdr, kBatch> messages = {};
  std::array<struct iovec, kBatch> parts;
  count = std::min(count, kBatch);
  for (size_t i = 0; i < count; i++) {
    parts[i] = {const_cast<uint8_t *>(frames[i].data), frames[i].size};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  size_t sent = 0;
  while (sent < count) {
    const int n = sendmmsg(fd_.get(), &messages[sent], static_cast<unsigned>(count - sent), MSG_DONTWAIT);
    // After a partial success the error of the frame at which it stopped comes with the next call.
    if (n > 0) {
      sent += static_cast<size_t>(n);
      continue;
    }
    if (errno == EINTR) continue;
    const bool full = errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS;
    return {sent, full ? Stop::kFull : Stop::kError, errno};
  }
  return {sent, Stop::kNone};
}

} // namespace baton
