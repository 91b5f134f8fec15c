#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "address.h"
#include "descriptor.h"
#include "loop.h"

struct Accepted {
  int fd;
  Endpoints ends;
};

/** Listens on a VIP and accepts in batches: bounded a turn of the loop, so that a burst of clients starves nobody. */
class Listener {
 public:
  using Accept = std::function<void(std::vector<Accepted>)>;

  /**
   * Plain TCP: MPTCP sockets refuse TCP_REPAIR. IP_FREEBIND, because the VIP may not be there yet. `receiveBuffer`
   * bounds the window that is ever advertised, in bytes; 0: the system's. @throws Failure
   */
  Listener(Loop &loop, const Address &address, int backlog, uint32_t receiveBuffer, Accept accept);
  /** Goes on with a listening socket that another process has opened so. @throws Failure; the socket is closed then */
  Listener(Loop &loop, Descriptor socket, Accept accept);
  ~Listener() { close(); }
  Listener(const Listener &) = delete;

  uint16_t port() const { return port_; }
  /** Connections in the backlog are reset by the kernel, unless another process has the socket, too. */
  void close();
  /** Stops accepting; what waits stays in the backlog. @returns the socket, the caller's */
  Descriptor detach();

 private:
  void begin(Loop &loop);
  void acceptSome();

  Descriptor socket_;
  uint16_t port_ = 0;
  Accept accept_;
  Watcher *watcher_ = nullptr;
  Timer *retry_ = nullptr;
};
