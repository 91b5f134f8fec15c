#include "address.h"

#include <arpa/inet.h>

#include <cstring>

#include "failure.h"

Address::Address(const std::string &host, uint16_t port) : v6{} {
  if (inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
  } else if (inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
  } else {
    throw Failure(EINVAL, "address", "inet_pton", host);
  }
}

const void *Address::bytes() const {
  if (family() == AF_INET) return &v4.sin_addr;
  return &v6.sin6_addr;
}

std::string Address::host() const {
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(family(), bytes(), text, sizeof text);
  return text;
}

std::string Address::text() const {
  return (family() == AF_INET6 ? "[" + host() + "]" : host()) + ":" + std::to_string(port());
}

bool Address::operator==(const Address &other) const {
  return family() == other.family() && port() == other.port() && memcmp(bytes(), other.bytes(), size()) == 0;
}

Endpoints endpointsOf(int fd) {
  Endpoints ends;
  socklen_t length = sizeof ends.local.v6;
  check(getsockname(fd, &ends.local.any, &length), "endpoints", "getsockname");
  length = sizeof ends.remote.v6;
  check(getpeername(fd, &ends.remote.any, &length), "endpoints", "getpeername", ends.local.text());
  return ends;
}
