// SPDX-License-Identifier: Apache-2.0
#include "hold_engine.h"

#include <bpf/bpf.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "error.h"

namespace baton {
namespace {

constexpr uint32_t kRecordsAStep = 512;
constexpr size_t kFlowsAStep = 256;
constexpr size_t kHeader = offsetof(struct baton_held_packet, frame);
constexpr size_t kEthernetHeader = 14;
constexpr uint64_t kRetryNs = 200'000;

uint64_t monotonic_ns() {
  struct timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

FlowKey key_of(const struct baton_flow &flow) {
  FlowKey key;
  memcpy(key.data(), &flow, key.size());
  return key;
}

} // namespace

HoldEngine::HoldEngine(const HoldConfig &config, HoldNews &news)
    : config_(config), news_(news), ring_(config.held_packets), socket_(config.interface) {
  if (config.holds->key_size() != sizeof(struct baton_flow) || config.holds->value_size() != sizeof(struct baton_hold))
    refuse("EINVAL", "holdQueue", config.holds->name(), "it is no map of struct baton_hold");
}

HoldFlow &HoldEngine::flow(const FlowKey &key) {
  auto &entry = flows_[key];
  if (!entry) {
    entry = std::make_unique<HoldFlow>(key);
    stats_.flows++;
  }
  return *entry;
}

void HoldEngine::erase(HoldFlow &flow) {
  discard(flow);
  stats_.flows--;
  deactivate(flow);
  // Not flows_.erase(flow.key): the key would be destroyed while it is in use.
  flows_.erase(flows_.find(flow.key));
}

void HoldEngine::discard(HoldFlow &flow) {
  stats_.packets -= flow.count;
  stats_.bytes -= flow.bytes;
  stats_.dropped += flow.count;
  flow.packets.clear();
  flow.count = 0;
  flow.bytes = 0;
}

void HoldEngine::activate(HoldFlow &flow) {
  if (!flow.active) flow.active = active_.insert(active_.end(), &flow);
}

void HoldEngine::deactivate(HoldFlow &flow) {
  if (flow.active) active_.erase(*flow.active);
  flow.active.reset();
}

// ---- in ----

uint32_t HoldEngine::drain() {
  return ring_.consume(kRecordsAStep, [this](Span record) { on_record(record); });
}

void HoldEngine::on_record(Span record) {
  struct baton_held_packet header;
  if (record.size < kHeader) {
    stats_.dropped++;
    return;
  }
  memcpy(&header, record.data, kHeader);
  if (header.length < kEthernetHeader || header.length > record.size - kHeader) {
    stats_.dropped++;
    return;
  }
  const uint8_t *frame = record.data + kHeader;
  if (header.reason == BATON_HELD_FLOW) {
    keep(header, frame);
  } else if (!news_.bounced({key_of(header.flow), header.slot, Bytes(frame, frame + header.length)})) {
    stats_.dropped++;
  }
}

void HoldEngine::keep(const struct baton_held_packet &header, const uint8_t *frame) {
  HoldFlow &held = flow(key_of(header.flow));
  const bool first = held.packets.empty();
  if (held.count >= config_.max_packets || stats_.bytes + header.length > config_.max_bytes) {
    held.insert_gap(header.ticket);
    stats_.dropped++;
  } else {
    auto copy = std::make_unique<uint8_t[]>(header.length);
    memcpy(copy.get(), frame, header.length);
    held.insert({header.ticket, 1, header.time_ns, std::move(copy), header.length});
    stats_.packets++;
    stats_.bytes += header.length;
  }
  if (held.state == HoldFlow::State::kForwarding) activate(held);
  if (first && held.state == HoldFlow::State::kHolding) news_.held(held.key);
}

// ---- out ----

HoldEngine::Next HoldEngine::step() {
  const uint32_t records = drain();
  std::vector<Visit> visits;
  std::vector<Span> frames;
  gather(visits, frames);
  full_ = false;
  send_error_ = 0;
  const size_t sent = transmit(visits, frames);

  const uint64_t now = monotonic_ns();
  bool progress = sent > 0 || active_.size() > visits.size();
  for (const Visit &visit : visits)
    progress |= settle(*visit.flow, now);
  const bool stuck = full_ || send_error_;
  return {
      .at_once = records == kRecordsAStep || (progress && !stuck),
      .when_writable = full_,
      .timeout_ns = active_.empty() ? 0 : kRetryNs,
  };
}

// Takes flows from the front of the list; settle() puts those that are not done to its end. So all get their turn.
void HoldEngine::gather(std::vector<Visit> &visits, std::vector<Span> &frames) {
  for (HoldFlow *flow : active_) {
    if (visits.size() == kFlowsAStep || frames.size() == PacketSocket::kBatch) return;
    Visit visit{flow, 0};
    if (flow->ready()) {
      while (frames.size() < PacketSocket::kBatch) {
        const HeldPacket *packet = flow->ready_after(visit.frames);
        if (!packet) break;
        memcpy(packet->frame.get(), flow->mac.data(), 6);
        memcpy(packet->frame.get() + 6, socket_.mac().data(), 6);
        frames.push_back({packet->frame.get(), packet->length});
        visit.frames++;
      }
    }
    visits.push_back(visit);
  }
}

size_t HoldEngine::transmit(const std::vector<Visit> &visits, const std::vector<Span> &frames) {
  if (frames.empty()) return 0;
  const PacketSocket::Sent result = socket_.send(frames.data(), frames.size());
  full_ = result.stop == PacketSocket::Stop::kFull;
  // A frame that is too long for the interface will never leave; everything else is the interface's state and may pass.
  const bool hopeless = result.stop == PacketSocket::Stop::kError && (result.err == EMSGSIZE || result.err == EINVAL);
  if (result.stop == PacketSocket::Stop::kError && !hopeless) send_error_ = result.err;
  account(visits, result.frames, hopeless);
  return result.frames + (hopeless ? 1 : 0);
}

void HoldEngine::account(const std::vector<Visit> &visits, size_t sent, bool skip_next) {
  const uint64_t now = monotonic_ns();
  const auto pop = [this](HoldFlow &flow) {
    stats_.packets--;
    stats_.bytes -= flow.packets.front().length;
    flow.pop();
    flow.waiting_since_ns = 0;
  };
  for (const Visit &visit : visits) {
    HoldFlow &flow = *visit.flow;
    for (uint32_t i = 0; i < visit.frames; i++) {
      if (sent == 0) {
        if (skip_next) {
          pop(flow);
          stats_.dropped++;
        }
        return;
      }
      if (flow.sent++ == 0) flow.first_ns = flow.packets.front().time_ns;
      flow.last_ns = now;
      pop(flow);
      stats_.sent++;
      sent--;
    }
  }
}

// ---- the end of a hold ----

bool HoldEngine::settle(HoldFlow &flow, uint64_t now) {
  if (flow.state == HoldFlow::State::kForwarding) {
    if (flow.packets.empty()) {
      deactivate(flow);
      if (flow.forget_when_empty) erase(flow);
      return true;
    }
    // The interface has taken nothing for so long that nobody waits for these any more.
    if (now > flow.packets.front().time_ns + kAssignNs) {
      discard(flow);
      return true;
    }
  } else if (flow.ready() == nullptr) {
    if (flow.packets.empty() ? try_release(flow, now) : wait_for_records(flow, flow.packets.front().ticket, now))
      return true;
  }
  if (flow.state == HoldFlow::State::kReleasing && now >= flow.deadline_ns) {
    const std::string code = send_error_ ? errno_code(send_error_) : "ETIMEDOUT";
    abort(flow, Error(code, "assign", config_.interface, "the hold could not be released in time"));
    return true;
  }
  active_.splice(active_.end(), active_, *flow.active);
  return false;
}

bool HoldEngine::try_release(HoldFlow &flow, uint64_t now) {
  // Tickets were outstanding at the last try, and neither has one of their records come nor have they been given up.
  if (flow.waiting_since_ns) return wait_for_records(flow, flow.waiting_for, now);

  struct baton_release_args arguments = {};
  memcpy(&arguments.flow, flow.key.data(), flow.key.size());
  arguments.sent = flow.next;
  arguments.slot = flow.slot;
  LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &arguments, .ctx_size_in = sizeof arguments);
  const int err = bpf_prog_test_run_opts(config_.release->fd(), &run);
  if (err) {
    abort(flow, Error(errno_code(err), "BPF_PROG_TEST_RUN", config_.release->name(), ""));
    return true;
  }
  if (arguments.done) {
    finish(flow);
    return true;
  }
  return wait_for_records(flow, tickets_taken(flow), now);
}

bool HoldEngine::wait_for_records(HoldFlow &flow, uint32_t below, uint64_t now) {
  if (!flow.waiting_since_ns) {
    flow.waiting_since_ns = now;
    flow.waiting_for = below;
    return false;
  }
  if (now - flow.waiting_since_ns < kRecordNs) return false;
  stats_.dropped += flow.give_up_below(flow.waiting_for);
  flow.waiting_since_ns = 0;
  return true;
}

uint32_t HoldEngine::tickets_taken(const HoldFlow &flow) const {
  struct baton_hold hold = {};
  const int err = bpf_map_lookup_elem(config_.holds->fd(), flow.key.data(), &hold);
  return err ? flow.next : hold.held;
}

void HoldEngine::finish(HoldFlow &flow) {
  news_.outcome({flow.assignment, flow.sent, flow.sent ? (flow.last_ns - flow.first_ns) / 1000 : 0, std::nullopt});
  flow.assignment = 0;
  flow.state = HoldFlow::State::kForwarding;
  deactivate(flow);
}

void HoldEngine::abort(HoldFlow &flow, const Error &error) {
  news_.outcome({flow.assignment, flow.sent, 0, error});
  flow.assignment = 0;
  flow.state = HoldFlow::State::kHolding;
  deactivate(flow);
}

// ---- commands ----

void HoldEngine::assign(uint64_t assignment, const FlowKey &key, uint16_t slot, const Mac &mac) {
  HoldFlow &assigned = flow(key);
  if (assigned.state == HoldFlow::State::kReleasing) {
    news_.outcome({assignment, 0, 0, Error("EBUSY", "assign", config_.interface, "the flow is being released")});
    return;
  }
  assigned.state = HoldFlow::State::kReleasing;
  assigned.slot = slot;
  assigned.mac = mac;
  assigned.deadline_ns = monotonic_ns() + kAssignNs;
  assigned.sent = 0;
  assigned.waiting_since_ns = 0;
  assigned.assignment = assignment;
  assigned.forget_when_empty = false;
  activate(assigned);
}

uint32_t HoldEngine::drop(const FlowKey &key) {
  bpf_map_delete_elem(config_.holds->fd(), key.data());
  // Records that are on their way belong to the hold that is gone. The bound is for a ring that fills as fast as it
  // drains.
  for (int round = 0; round < 64 && drain() == kRecordsAStep; round++) {
  }
  const auto found = flows_.find(key);
  if (found == flows_.end()) return 0;
  HoldFlow &dropped = *found->second;
  const uint32_t packets = dropped.count;
  if (dropped.state == HoldFlow::State::kReleasing)
    abort(dropped, Error("ECANCELED", "assign", config_.interface, "the flow was dropped"));
  erase(dropped);
  return packets;
}

void HoldEngine::forget(const FlowKey &key) {
  const auto found = flows_.find(key);
  if (found == flows_.end()) return;
  HoldFlow &forgotten = *found->second;
  if (forgotten.state == HoldFlow::State::kReleasing) return;
  if (forgotten.packets.empty())
    erase(forgotten);
  else if (forgotten.state == HoldFlow::State::kForwarding)
    forgotten.forget_when_empty = true;
}

std::vector<HoldSnapshot> HoldEngine::flows() const {
  std::vector<HoldSnapshot> out;
  for (const auto &[key, flow] : flows_) {
    if (flow->count == 0) continue;
    HoldSnapshot snapshot{key, flow->count, flow->bytes, 0, {}, {}};
    const auto whole = [](const HeldPacket &packet) { return !packet.gap(); };
    const auto first = std::find_if(flow->packets.begin(), flow->packets.end(), whole);
    const auto last = std::find_if(flow->packets.rbegin(), flow->packets.rend(), whole);
    snapshot.since_ns = first->time_ns;
    snapshot.first.assign(first->frame.get(), first->frame.get() + first->length);
    snapshot.last.assign(last->frame.get(), last->frame.get() + last->length);
    out.push_back(std::move(snapshot));
  }
  return out;
}

void HoldEngine::send(Span frame) {
  if (frame.size < kEthernetHeader) refuse("EINVAL", "sendmmsg", config_.interface, "no whole Ethernet frame");
  const PacketSocket::Sent result = socket_.send(&frame, 1);
  if (result.stop != PacketSocket::Stop::kNone) fail(result.err, "sendmmsg", config_.interface);
}

} // namespace baton
