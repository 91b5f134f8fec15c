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
  int queued = 0;
  check(ioctl(fd, SIOCOUTQ, &queued), "info", "ioctl(SIOCOUTQ)");
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
      .sendQueueBytes = static_cast<uint32_t>(queued),
  };
}

Clock clockOf(int fd) {
  auto timestamp =
      static_cast<uint32_t>(getOption(fd, IPPROTO_TCP, TCP_TIMESTAMP, "clock", "getsockopt(TCP_TIMESTAMP)"));
  int mss = getOption(fd, IPPROTO_TCP, TCP_MAXSEG, "clock", "getsockopt(TCP_MAXSEG)");
  return {timestamp, (timestamp & 1) != 0, static_cast<uint16_t>(mss)};
}
