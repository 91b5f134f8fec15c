// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "error.h"
#include "hold_flow.h"

namespace baton {

struct BouncedPacket {
  FlowKey flow;
  uint16_t slot;
  Bytes frame;
};

/** How an assignment ended. */
struct HoldOutcome {
  uint64_t assignment;
  uint32_t packets;
  uint64_t held_us;
  std::optional<Error> error;
};

/**
 * What the queue's thread has to tell. Bounded: flows and outcomes by how many there are, bounced packets by
 * kBouncedMax. `wake` is called once for each time that there is something after there was nothing.
 */
class HoldNews {
 public:
  static constexpr size_t kBouncedMax = 4096;

  explicit HoldNews(std::function<void()> wake) : wake_(std::move(wake)) {}

  void held(const FlowKey &flow);
  /** @returns false if there is no room: the packet is lost */
  bool bounced(BouncedPacket packet);
  void outcome(HoldOutcome outcome);

  struct Batch {
    std::vector<FlowKey> held;
    std::vector<BouncedPacket> bounced;
    std::vector<HoldOutcome> outcomes;
    bool more;
  };
  /** At most `limit` of each kind. If there is `more`, no wake() will come for it. */
  Batch take(size_t limit);

 private:
  void signal(std::unique_lock<std::mutex> &lock);

  const std::function<void()> wake_;
  std::mutex mutex_;
  std::vector<FlowKey> held_;
  std::vector<BouncedPacket> bounced_;
  std::vector<HoldOutcome> outcomes_;
  bool signalled_ = false;
};

} // namespace baton
