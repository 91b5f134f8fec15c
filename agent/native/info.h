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

/** SIOCOUTQ: bytes that the peer has not acknowledged, sent or not. Cheap, beside infoOf. @throws Failure */
uint32_t sendQueueBytesOf(int fd);

/** TCP_TIMESTAMP: the clock's value, whose last bit says whether it counts microseconds. @throws Failure */
uint32_t timestampClockOf(int fd);
