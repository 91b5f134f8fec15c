#pragma once

#include <functional>

#include "address.h"
#include "descriptor.h"
#include "loop.h"

/** One connection that this end opens, from a VIP to a client. */
class Dialing {
 public:
  /** Gets the connected socket, or what went wrong: the name of an errno. */
  using Done = std::function<void(Descriptor socket, const char *code)>;

  /** Begins. `receiveBuffer` as for a listener. `done` comes once, from the loop. @throws Failure */
  Dialing(Loop &loop, const Endpoints &ends, uint32_t receiveBuffer, Done done);
  ~Dialing() { close(); }
  Dialing(const Dialing &) = delete;

  /** Gives up: nothing is said to the client any more, `done` does not come. */
  void close();

 private:
  void ready();

  Descriptor socket_;
  Watcher *watcher_ = nullptr;
  Done done_;
};
