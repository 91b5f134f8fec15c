#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "address.h"
#include "descriptor.h"

/** A TCP segment made by hand: local is its source. Numbers in host order, the window as on the wire. */
struct Segment {
  Endpoints ends;
  uint32_t seq;
  uint32_t ack;
  uint8_t flags; // FIN 1, SYN 2, RST 4, PSH 8, ACK 16
  uint16_t window;
  bool hasTimestamps;
  uint32_t tsval, tsecr;
  std::string payload;
};

/**
 * Sends segments past the kernel's TCP: probes, nudges, exact resets. One raw socket a family, opened when first needed
 * in the caller's network namespace and marked BATON_MARK, which the guard's egress knows.
 */
class SegmentSender {
 public:
  /**
   * Never blocks. Stops where the kernel has no room. A segment without a route counts as sent: it is lost as on any
   * wire.
   * @returns how many of the first segments were taken.
   * @throws Failure if no raw socket can be opened (CAP_NET_RAW) or a segment is malformed (payload too long).
   */
  size_t send(const std::vector<Segment> &segments);

 private:
  int socketFor(int family);

  Descriptor v4_, v6_;
};
