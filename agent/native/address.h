#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>

/** An IPv4 or IPv6 address with a port. */
struct Address {
  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  };

  Address() : v6{} {}
  /** @throws Failure EINVAL if `text` is neither an IPv4 nor an IPv6 address. */
  Address(const std::string &text, uint16_t port);

  int family() const { return any.sa_family; }
  socklen_t length() const { return family() == AF_INET ? sizeof(v4) : sizeof(v6); }
  uint16_t port() const { return ntohs(family() == AF_INET ? v4.sin_port : v6.sin6_port); }
  /** The address's bytes: 4 or 16. */
  const void *bytes() const;
  size_t size() const { return family() == AF_INET ? 4 : 16; }
  std::string host() const;
  /** "10.0.0.1:80", "[fd77::1]:80" */
  std::string text() const;

  bool operator==(const Address &other) const;
};

/** Both ends of a connection; `local` is the VIP. */
struct Endpoints {
  Address local;
  Address remote;

  std::string text() const { return local.text() + " <- " + remote.text(); }
};

/** A connected socket's ends. @throws Failure */
Endpoints endpointsOf(int fd);
