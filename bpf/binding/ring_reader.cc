// SPDX-License-Identifier: Apache-2.0
#include "ring_reader.h"

#include <bpf/libbpf.h>

#include <cerrno>

#include "error.h"
#include "libbpf_log.h"

namespace baton {

RingReader::RingReader(std::shared_ptr<Map> map) : map_(std::move(map)) {
  LibbpfLog log;
  ring_ = ring_buffer__new(map_->fd(), on_sample, this, nullptr);
  if (!ring_) fail(errno, "ring_buffer__new", map_->name(), log.tail());
}

RingReader::~RingReader() {
  ring_buffer__free(ring_);
}

int RingReader::epoll_fd() const {
  return ring_buffer__epoll_fd(ring_);
}

int RingReader::on_sample(void *context, void *data, size_t size) {
  auto *reader = static_cast<RingReader *>(context);
  (*reader->on_record_)({static_cast<const uint8_t *>(data), size});
  // libbpf has consumed this record either way; a negative answer only stops it from taking the next.
  return ++reader->taken_ >= reader->budget_ ? -ECANCELED : 0;
}

uint32_t RingReader::consume(uint32_t budget, const std::function<void(Span)> &on_record) {
  on_record_ = &on_record;
  budget_ = budget;
  taken_ = 0;
  const int err = ring_buffer__consume(ring_);
  on_record_ = nullptr;
  if (err < 0 && err != -ECANCELED) fail(err, "ring_buffer__consume", map_->name());
  return taken_;
}

} // namespace baton
