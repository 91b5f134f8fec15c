#include "segment.h"

#include <linux/bpf.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>

#include <cstring>

#include "failure.h"
#include "option.h"
#include "shared.h"

namespace {

constexpr size_t PAYLOAD_MAX = 1024;    // probes carry one byte; nothing here is meant for bulk
constexpr size_t TIMESTAMPS_BYTES = 12; // NOP, NOP, kind 8, length 10 (RFC 7323 appendix A)
constexpr int HOPS = 64;

/** Sum of 16-bit words in network order, not folded (RFC 1071). */
uint32_t sum(const void *data, size_t length, uint32_t start = 0) {
  auto bytes = static_cast<const uint8_t *>(data);
  for (; length > 1; bytes += 2, length -= 2)
    start += bytes[0] << 8 | bytes[1];
  return length ? start + (bytes[0] << 8) : start;
}

uint16_t fold(uint32_t total) {
  while (total >> 16)
    total = (total & 0xffff) + (total >> 16);
  return htons(static_cast<uint16_t>(~total));
}

/** The TCP header with its options and payload; the checksum covers the pseudo header (RFC 9293 section 3.1, RFC
 * 8200 8.1). */
std::string tcpBytes(const Segment &segment) {
  size_t head = sizeof(tcphdr) + (segment.hasTimestamps ? TIMESTAMPS_BYTES : 0);
  std::string bytes(head, '\0');
  auto &tcp = *reinterpret_cast<tcphdr *>(bytes.data());
  tcp.th_sport = htons(segment.ends.local.port());
  tcp.th_dport = htons(segment.ends.remote.port());
  tcp.th_seq = htonl(segment.seq);
  tcp.th_ack = htonl(segment.ack);
  tcp.th_off = head / 4;
  tcp.th_flags = segment.flags;
  tcp.th_win = htons(segment.window);
  if (segment.hasTimestamps) {
    const uint8_t kind[4] = {TCPOPT_NOP, TCPOPT_NOP, TCPOPT_TIMESTAMP, TCPOLEN_TIMESTAMP};
    const uint32_t values[2] = {htonl(segment.tsval), htonl(segment.tsecr)};
    memcpy(bytes.data() + sizeof(tcphdr), kind, sizeof kind);
    memcpy(bytes.data() + sizeof(tcphdr) + sizeof kind, values, sizeof values);
  }
  bytes += segment.payload;

  const Address &from = segment.ends.local, &to = segment.ends.remote;
  uint32_t total = sum(from.bytes(), from.size()) + sum(to.bytes(), to.size()) + IPPROTO_TCP + bytes.size();
  uint16_t checksum = fold(sum(bytes.data(), bytes.size(), total));
  memcpy(bytes.data() + offsetof(tcphdr, th_sum), &checksum, sizeof checksum);
  return bytes;
}

/** The whole packet. The kernel adds the IPv4 header's checksum (raw(7)). */
std::string packet(const Segment &segment) {
  const Address &from = segment.ends.local, &to = segment.ends.remote;
  std::string tcp = tcpBytes(segment);
  if (from.family() == AF_INET) {
    iphdr ip{};
    ip.version = 4;
    ip.ihl = sizeof ip / 4;
    ip.tot_len = htons(sizeof ip + tcp.size());
    ip.frag_off = htons(IP_DF);
    ip.ttl = HOPS;
    ip.protocol = IPPROTO_TCP;
    memcpy(&ip.saddr, from.bytes(), from.size());
    memcpy(&ip.daddr, to.bytes(), to.size());
    return std::string(reinterpret_cast<char *>(&ip), sizeof ip) + tcp;
  }
  ip6_hdr ip{};
  ip.ip6_flow = htonl(6u << 28);
  ip.ip6_plen = htons(tcp.size());
  ip.ip6_nxt = IPPROTO_TCP;
  ip.ip6_hlim = HOPS;
  memcpy(&ip.ip6_src, from.bytes(), from.size());
  memcpy(&ip.ip6_dst, to.bytes(), to.size());
  return std::string(reinterpret_cast<char *>(&ip), sizeof ip) + tcp;
}

bool isFull(int number) {
  return number == EAGAIN || number == ENOBUFS || number == ENOMEM;
}

} // namespace

int SegmentSender::socketFor(int family) {
  Descriptor &raw = family == AF_INET ? v4_ : v6_;
  if (!raw) {
    // IPPROTO_RAW implies IP_HDRINCL and IPV6_HDRINCL, and receives nothing.
    Descriptor opened(
        check(socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW), "raw socket", "socket"));
    setOption(opened.get(), SOL_SOCKET, SO_MARK, BATON_MARK, "raw socket", "setsockopt(SO_MARK)");
    raw = std::move(opened);
  }
  return raw.get();
}

size_t SegmentSender::send(const std::vector<Segment> &segments) {
  size_t taken = 0;
  for (const Segment &segment : segments) {
    if (segment.payload.size() > PAYLOAD_MAX) throw Failure(EMSGSIZE, "segment", "sendto", segment.ends.text());
    Address to = segment.ends.remote;
    // A raw IPv6 socket takes the port for a protocol number (net/ipv6/raw.c).
    if (to.family() == AF_INET6) to.v6.sin6_port = 0;
    std::string bytes = packet(segment);
    if (sendto(socketFor(to.family()), bytes.data(), bytes.size(), MSG_NOSIGNAL, &to.any, to.length()) < 0) {
      if (isFull(errno)) break;
      if (errno == EMSGSIZE || errno == EINVAL || errno == EAFNOSUPPORT) {
        throw Failure(errno, "segment", "sendto", segment.ends.text());
      }
    }
    taken++;
  }
  return taken;
}
