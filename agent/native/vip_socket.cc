#include "vip_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "option.h"

Descriptor openAtVip(const Address &address, uint32_t receiveBuffer, const char *step) {
  bool v6 = address.family() == AF_INET6;
  Descriptor opened(
      check(socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP), step, "socket"));
  int fd = opened.get();
  setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1, step, "setsockopt(SO_REUSEADDR)");
  // The VIP may not be there yet.
  if (v6) {
    setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, step, "setsockopt(IPV6_V6ONLY)");
    setOption(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1, step, "setsockopt(IPV6_FREEBIND)");
  } else {
    setOption(fd, IPPROTO_IP, IP_FREEBIND, 1, step, "setsockopt(IP_FREEBIND)");
  }
  // Before the handshake: the window scale follows from them.
  if (receiveBuffer > 0) {
    setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, receiveBuffer * 2, step, "setsockopt(SO_RCVBUFFORCE)");
    setOption(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, receiveBuffer, step, "setsockopt(TCP_WINDOW_CLAMP)");
  }
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1, step, "setsockopt(TCP_NODELAY)");
  // Urgent bytes stay in the stream (RFC 6093 section 6): they have sequence numbers, and every offset counts them.
  setOption(fd, SOL_SOCKET, SO_OOBINLINE, 1, step, "setsockopt(SO_OOBINLINE)");
  check(bind(fd, &address.any, address.length()), step, "bind");
  return opened;
}
