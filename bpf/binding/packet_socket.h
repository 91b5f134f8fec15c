// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "fd.h"
#include "map.h"

namespace baton {

using Mac = std::array<uint8_t, 6>;

/** AF_PACKET on one interface, for sending whole Ethernet frames. It receives nothing. */
class PacketSocket {
 public:
  static constexpr size_t kBatch = 64;

  explicit PacketSocket(const std::string &interface);

  int fd() const { return fd_.get(); }
  /** The interface's own address. */
  const Mac &mac() const { return mac_; }

  enum class Stop { kNone, kFull, kError };
  struct Sent {
    size_t frames;
    Stop stop;   // why it ended before the last frame
    int err = 0; // of the frame at which it stopped
  };
  /** Sends frames in order, at most kBatch. kFull: the interface or the socket's buffer has no room; try again later.
   */
  Sent send(const Span *frames, size_t count);

 private:
  Fd fd_;
  Mac mac_ = {};
};

} // namespace baton
