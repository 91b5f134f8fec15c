#include "info.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#include "option.h"

Info infoOf(int fd) {
  tcp_info raw{};
  socklen_t length = sizeof raw;
  check(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &raw, &length), "info", "getsockopt(TCP_INFO)");
  return {
      .state = raw.tcpi_state,
      .options = raw.tcpi_options,
      .sendScale = raw.tcpi_snd_wscale,
      .receiveScale = raw.tcpi_rcv_wscale,
      .sendMss = raw.tcpi_snd_mss,
      .unacked = raw.tcpi_unacked,
      .rttUs = raw.tcpi_rtt,
      .retransmits = raw.tcpi_retransmits,
      .totalRetransmits = raw.tcpi_total_retrans,
      .bytesAcked = raw.tcpi_bytes_acked,
      .bytesReceived = raw.tcpi_bytes_received,
      .notSentBytes = raw.tcpi_notsent_bytes,
      .sendQueueBytes = sendQueueBytesOf(fd),
  };
}

uint32_t sendQueueBytesOf(int fd) {
  int queued = 0;
  check(ioctl(fd, SIOCOUTQ, &queued), "info", "ioctl(SIOCOUTQ)");
  return queued;
}

uint32_t timestampClockOf(int fd) {
  return getOption(fd, IPPROTO_TCP, TCP_TIMESTAMP, "clock", "getsockopt(TCP_TIMESTAMP)");
}
