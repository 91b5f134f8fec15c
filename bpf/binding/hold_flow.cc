// SPDX-License-Identifier: Apache-2.0
#include "hold_flow.h"

namespace baton {
namespace {

/** a before b, modulo 2^32 */
bool before(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(a - b) < 0;
}

} // namespace

void HoldFlow::insert(HeldPacket packet) {
  // A ticket from before: the hold was deleted and made anew, and counts from the start again.
  if (state == State::kHolding && before(packet.ticket, next)) next = packet.ticket;
  bytes += packet.length;
  count += packet.gap() ? 0 : 1;
  auto at = packets.end();
  while (at != packets.begin() && before(packet.ticket, (at - 1)->ticket))
    --at;
  packets.insert(at, std::move(packet));
}

void HoldFlow::insert_gap(uint32_t ticket) {
  if (!packets.empty()) {
    HeldPacket &last = packets.back();
    if (last.gap() && last.ticket + last.tickets == ticket) {
      last.tickets++;
      return;
    }
  }
  insert({ticket, 1, 0, nullptr, 0});
}

const HeldPacket *HoldFlow::ready() {
  // Stragglers of a flipped hold, and tickets that were given up and came after all, do not wait for anything.
  const auto due = [this](const HeldPacket &packet) {
    return state == State::kForwarding || !before(next, packet.ticket);
  };
  while (!packets.empty() && due(packets.front())) {
    const HeldPacket &front = packets.front();
    if (!front.gap()) return &front;
    const uint32_t behind = front.ticket + front.tickets;
    if (before(next, behind)) next = behind;
    packets.pop_front();
  }
  return nullptr;
}

const HeldPacket *HoldFlow::ready_after(size_t n) const {
  if (n >= packets.size()) return nullptr;
  const HeldPacket &packet = packets[n];
  if (packet.gap()) return nullptr;
  if (n == 0 || state == State::kForwarding) return &packet;
  return packet.ticket == packets[n - 1].ticket + 1 ? &packet : nullptr;
}

void HoldFlow::pop() {
  const HeldPacket &front = packets.front();
  if (!before(front.ticket, next)) next = front.ticket + 1;
  bytes -= front.length;
  count--;
  packets.pop_front();
}

uint32_t HoldFlow::give_up_below(uint32_t taken) {
  if (packets.empty() && before(taken, next)) {
    next = taken;
    return 0;
  }
  if (!packets.empty() && before(packets.front().ticket, taken)) taken = packets.front().ticket;
  if (!before(next, taken)) return 0;
  const uint32_t lost = taken - next;
  next = taken;
  return lost;
}

} // namespace baton
