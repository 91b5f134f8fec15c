// SPDX-License-Identifier: Apache-2.0
#include "ip_packet.h"

#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "error.h"
#include "fd.h"

namespace baton {

void send_ip_packet(Span packet) {
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  } to = {};
  socklen_t length = 0;
  const int version = packet.size > 0 ? packet.data[0] >> 4 : 0;
  if (version == 4 && packet.size >= sizeof(struct iphdr)) {
    to.v4.sin_family = AF_INET;
    memcpy(&to.v4.sin_addr, packet.data + offsetof(struct iphdr, daddr), sizeof to.v4.sin_addr);
    length = sizeof to.v4;
  } else if (version == 6 && packet.size >= sizeof(struct ip6_hdr)) {
    to.v6.sin6_family = AF_INET6;
    memcpy(&to.v6.sin6_addr, packet.data + offsetof(struct ip6_hdr, ip6_dst), sizeof to.v6.sin6_addr);
    length = sizeof to.v6;
  } else {
    refuse("EINVAL", "sendto", "packet", "no whole IP packet");
  }
  // IPPROTO_RAW: the header is ours, in both families, and nothing is received (raw(7), net/ipv6/raw.c).
  const Fd fd(socket(to.any.sa_family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!fd.open()) fail(errno, "socket", "IPPROTO_RAW");
  if (sendto(fd.get(), packet.data, packet.size, MSG_NOSIGNAL, &to.any, length) < 0) fail(errno, "sendto", "packet");
}

} // namespace baton
