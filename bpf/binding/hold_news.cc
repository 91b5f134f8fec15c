// SPDX-License-Identifier: Apache-2.0
#include "hold_news.h"

#include <algorithm>
#include <iterator>

namespace baton {
namespace {

template <typename Item> std::vector<Item> take_front(std::vector<Item> &from, size_t limit) {
  if (from.size() <= limit) return std::exchange(from, {});
  std::vector<Item> out(std::make_move_iterator(from.begin()), std::make_move_iterator(from.begin() + limit));
  from.erase(from.begin(), from.begin() + limit);
  return out;
}

} // namespace

void HoldNews::held(const FlowKey &flow) {
  std::unique_lock lock(mutex_);
  held_.push_back(flow);
  signal(lock);
}

bool HoldNews::bounced(BouncedPacket packet) {
  std::unique_lock lock(mutex_);
  if (bounced_.size() >= kBouncedMax) return false;
  bounced_.push_back(std::move(packet));
  signal(lock);
  return true;
}

void HoldNews::outcome(HoldOutcome outcome) {
  std::unique_lock lock(mutex_);
  outcomes_.push_back(std::move(outcome));
  signal(lock);
}

void HoldNews::signal(std::unique_lock<std::mutex> &lock) {
  if (std::exchange(signalled_, true)) return;
  lock.unlock();
  wake_();
}

HoldNews::Batch HoldNews::take(size_t limit) {
  const std::unique_lock lock(mutex_);
  Batch batch{take_front(held_, limit), take_front(bounced_, limit), take_front(outcomes_, limit), false};
  batch.more = !held_.empty() || !bounced_.empty() || !outcomes_.empty();
  signalled_ = batch.more;
  return batch;
}

} // namespace baton
