// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "map.h"

struct ring_buffer;

namespace baton {

/** The consuming end of a BPF ring buffer. Not for two threads at once. */
class RingReader {
 public:
  /** @throws Error EINVAL if the map is no ring buffer */
  explicit RingReader(std::shared_ptr<Map> map);
  ~RingReader();
  RingReader(const RingReader &) = delete;
  RingReader &operator=(const RingReader &) = delete;

  /** Readable (level-triggered) while there are records. */
  int epoll_fd() const;

  /**
   * Hands out at most `budget` records, each valid only during the call.
   * @returns how many
   */
  uint32_t consume(uint32_t budget, const std::function<void(Span)> &on_record);

 private:
  static int on_sample(void *reader, void *data, size_t size);

  std::shared_ptr<Map> map_;
  ring_buffer *ring_ = nullptr;
  const std::function<void(Span)> *on_record_ = nullptr;
  uint32_t budget_ = 0;
  uint32_t taken_ = 0;
};

} // namespace baton
