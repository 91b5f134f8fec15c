#pragma once

#include <cstdint>

/** What TCP_INFO and the queue ioctls say; TcpInfo in api.ts. */
struct Info {
  uint8_t state;
  uint8_t options;
  uint8_t sendScale;
  uint8_t receiveScale;
  uint32_t sendMss;
  uint32_t unacked;
  uint32_t rttUs;
  uint32_t retransmits;
  uint32_t totalRetransmits;
  uint64_t bytesAcked;
  uint64_t bytesReceived;
  uint32_t notSentBytes;
  uint32_t sendQueueBytes;
};

/** @throws Failure */
Info infoOf(int fd);

struct Clock {
  uint32_t timestamp; // bit 0 is the microsecond flag, as the kernel gives it
  bool usec;
  uint16_t mss; // mss_cache: without the timestamp option's 12 bytes; in repair mode the negotiated clamp
};

/** @throws Failure */
Clock clockOf(int fd);
