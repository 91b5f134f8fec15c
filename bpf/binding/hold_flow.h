// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/bpf.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <list>
#include <memory>
#include <optional>

#include "map.h"
#include "packet_socket.h"
#include "shared.h"

namespace baton {

/** struct baton_flow as bytes. */
using FlowKey = std::array<uint8_t, sizeof(struct baton_flow)>;

struct FlowKeyHash {
  size_t operator()(const FlowKey &key) const {
    uint64_t hash = 0x9e3779b97f4a7c15u;
    for (size_t at = 0; at < key.size(); at += 8) {
      uint64_t word;
      memcpy(&word, &key[at], 8);
      hash = (hash ^ word) * 0xff51afd7ed558ccdu;
      hash ^= hash >> 32;
    }
    return hash;
  }
};
static_assert(sizeof(FlowKey) % 8 == 0, "hashed by words");

struct HeldPacket {
  uint32_t ticket;
  uint32_t tickets; // 1 for a packet; for a gap (no frame) how many tickets have none any more
  uint64_t time_ns;
  std::unique_ptr<uint8_t[]> frame;
  uint32_t length;

  bool gap() const { return !frame; }
};

/**
 * One flow's packets by ticket.
 *
 *     tickets   0 .. next-1      next ..            ...        held-1
 *               disposed of      queued (some may be on their way through the ring buffer)
 *
 * Records come nearly in order: a record is reserved before its ticket is taken, so that two CPUs may swap. A ticket is
 * disposed of when its packet was sent, or was thrown away and counted: both let the hold end.
 */
class HoldFlow {
 public:
  enum class State {
    kHolding,    // packets are kept
    kReleasing,  // assigned: packets leave, then the hold is flipped
    kForwarding, // the hold is flipped: a straggler leaves as it comes
  };

  explicit HoldFlow(const FlowKey &flow) : key(flow) {}

  void insert(HeldPacket packet);
  /** The ticket `ticket` has no packet any more. */
  void insert_gap(uint32_t ticket);
  /** Passes over gaps at the front. @returns the packet whose turn it is, if it is there */
  const HeldPacket *ready();
  /** `n`th packet after ready() whose turn comes without a gap in between; nullptr if there is none. */
  const HeldPacket *ready_after(size_t n) const;
  void pop();
  /**
   * Waits no longer for tickets below `taken`: what has not come of them is lost. If the hold has given out fewer than
   * were disposed of, it was deleted and made anew meanwhile, and counting goes on from there.
   * @returns how many are lost
   */
  uint32_t give_up_below(uint32_t taken);

  const FlowKey key;
  State state = State::kHolding;
  uint32_t next = 0; // the first ticket that is not disposed of
  std::deque<HeldPacket> packets;
  uint32_t count = 0; // of packets with a frame
  uint64_t bytes = 0;

  // While it is assigned:
  uint16_t slot = 0;
  Mac mac = {};
  uint64_t deadline_ns = 0;
  uint32_t sent = 0;
  uint64_t first_ns = 0; // when the first packet was held
  uint64_t last_ns = 0;  // when the last one was sent
  /** Since when a ticket is waited for whose record may still be on its way; 0: none is. */
  uint64_t waiting_since_ns = 0;
  uint32_t waiting_for = 0; // all below this one had been taken then
  uint64_t assignment = 0;  // who is to be told; 0: nobody
  bool forget_when_empty = false;

  /** Its place in the list of flows that have something to do. */
  std::optional<std::list<HoldFlow *>::iterator> active;
};

} // namespace baton
