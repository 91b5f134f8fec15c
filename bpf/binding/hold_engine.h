// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "hold_flow.h"
#include "hold_news.h"
#include "map.h"
#include "packet_socket.h"
#include "program.h"
#include "ring_reader.h"

namespace baton {

struct HoldConfig {
  std::shared_ptr<Map> held_packets; // ring buffer of struct baton_held_packet
  std::shared_ptr<Map> holds;        // struct baton_flow -> struct baton_hold
  std::shared_ptr<Program> release;  // SEC("syscall"), struct baton_release_args
  std::string interface;
  uint64_t max_bytes;   // of all flows together
  uint32_t max_packets; // of one flow
};

struct HoldSnapshot {
  FlowKey flow;
  uint32_t packets;
  uint64_t bytes;
  uint64_t since_ns;
  Bytes first, last;
};

struct HoldStats {
  std::atomic<uint64_t> packets{0}, bytes{0}, flows{0}, dropped{0}, sent{0};
};

/**
 * The queue of held packets, without any thread: whoever calls it does so from one thread alone.
 *
 *   held_packets ──► HoldFlow (by ticket) ──► AF_PACKET ──► steer_release: all tickets sent? ──yes──► flipped
 *                       ▲                                          │ no: packets came meanwhile
 *                       └──────────────── drain again ◄────────────┘
 *
 * Nothing overtakes: as long as the hold is not flipped every packet comes through here, and it is flipped only in the
 * instant in which no ticket is outstanding. A ticket whose record does not come within kRecordNs was lost on its way
 * (the ring buffer was full, or a predecessor of this process had it) and is counted as dropped.
 */
class HoldEngine {
 public:
  /** How long a record may take from its ticket to the ring buffer. */
  static constexpr uint64_t kRecordNs = 2'000'000;
  /** An assignment that is not over by then fails; the flow stays held, its packets queued. */
  static constexpr uint64_t kAssignNs = 2'000'000'000;

  HoldEngine(const HoldConfig &config, HoldNews &news);

  int ring_fd() const { return ring_.epoll_fd(); }
  int socket_fd() const { return socket_.fd(); }
  const HoldStats &stats() const { return stats_; }

  struct Next {
    bool at_once;        // there is more to do right now
    bool when_writable;  // ... when the socket has room
    uint64_t timeout_ns; // ... after this time; 0: not before something happens
  };
  /** A bounded piece of work. */
  Next step();

  void assign(uint64_t assignment, const FlowKey &flow, uint16_t slot, const Mac &mac);
  uint32_t drop(const FlowKey &flow);
  void forget(const FlowKey &flow);
  std::vector<HoldSnapshot> flows() const;
  /** A single frame, ahead of everything. Callable from any thread. @throws Error ENOBUFS, EAGAIN, ENETDOWN, ... */
  void send(Span frame);

 private:
  struct Visit {
    HoldFlow *flow;
    uint32_t frames;
  };

  HoldFlow &flow(const FlowKey &key);
  /** Throws the packets away and counts them. */
  void discard(HoldFlow &flow);
  void erase(HoldFlow &flow);
  void activate(HoldFlow &flow);
  void deactivate(HoldFlow &flow);

  uint32_t drain();
  void on_record(Span record);
  void keep(const struct baton_held_packet &header, const uint8_t *frame);

  void gather(std::vector<Visit> &visits, std::vector<Span> &frames);
  /** @returns how many were sent */
  size_t transmit(const std::vector<Visit> &visits, const std::vector<Span> &frames);
  void account(const std::vector<Visit> &visits, size_t sent, bool skip_next);
  /** @returns whether the flow came nearer to its end */
  bool settle(HoldFlow &flow, uint64_t now);
  bool try_release(HoldFlow &flow, uint64_t now);
  bool wait_for_records(HoldFlow &flow, uint32_t below, uint64_t now);
  uint32_t tickets_taken(const HoldFlow &flow) const;
  void finish(HoldFlow &flow);
  void abort(HoldFlow &flow, const Error &error);

  const HoldConfig config_;
  HoldNews &news_;
  RingReader ring_;
  PacketSocket socket_;
  HoldStats stats_;
  std::unordered_map<FlowKey, std::unique_ptr<HoldFlow>, FlowKeyHash> flows_;
  std::list<HoldFlow *> active_; // assigned, or with stragglers to forward
  bool full_ = false;            // the socket has no room
  int send_error_ = 0;           // the interface does not take frames at all
};

} // namespace baton
