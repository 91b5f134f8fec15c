// SPDX-License-Identifier: Apache-2.0
#include <node_api.h>
#include <uv.h>

#include <algorithm>

#include "glue.h"
#include "ring_reader.h"
#include "wrapped.h"

namespace baton::glue {
namespace {

constexpr uint32_t kBudget = 256;

class RingPoll;

/** What JavaScript holds. RingPoll lives a little longer than its `close`, and may close by itself. */
struct RingHandle {
  RingPoll *poll = nullptr;
};

/**
 * One ring buffer on libuv. The poll handle is level-triggered: what a turn's budget leaves is taken in the next turn,
 * and with nothing to take nothing runs. It does not keep the process alive by itself.
 *
 * Lifetime: `this` is deleted when libuv says that the handle is closed. JavaScript's object and the environment's end
 * both lead to close(), whichever comes first.
 */
class RingPoll {
 public:
  RingPoll(Napi::Env env, const std::shared_ptr<Map> &map, const Napi::Function &on_record, uint32_t budget,
           std::shared_ptr<RingHandle> handle)
      : env_(env), handle_(std::move(handle)), reader_(map), on_record_(Napi::Persistent(on_record)),
        context_(env, "baton:ring_buffer"), budget_(budget) {
    uv_loop_t *loop = nullptr;
    napi_get_uv_event_loop(env, &loop);
    int err = uv_poll_init(loop, &poll_, reader_.epoll_fd());
    if (err) fail(err, "uv_poll_init", map->name());
    poll_.data = this;
    uv_unref(reinterpret_cast<uv_handle_t *>(&poll_));
    uv_poll_start(&poll_, UV_READABLE, on_readable);
    napi_add_async_cleanup_hook(env, on_environment_end, this, &cleanup_);
    handle_->poll = this;
  }

  void close() {
    if (closing_) return;
    closing_ = true;
    handle_->poll = nullptr;
    on_record_.Reset();
    uv_poll_stop(&poll_);
    uv_close(reinterpret_cast<uv_handle_t *>(&poll_), [](uv_handle_t *handle) {
      auto *self = static_cast<RingPoll *>(handle->data);
      napi_remove_async_cleanup_hook(self->cleanup_);
      delete self;
    });
  }

 private:
  static void on_environment_end(napi_async_cleanup_hook_handle, void *self) { static_cast<RingPoll *>(self)->close(); }

  static void on_readable(uv_poll_t *poll, int, int) { static_cast<RingPoll *>(poll->data)->turn(); }

  void turn() {
    const Napi::HandleScope scope(env_);
    try {
      reader_.consume(budget_, [this](Span record) { deliver(record); });
    } catch (const Error &error) {
      // The memory of the ring is broken: there is nothing to go on with.
      napi_fatal_exception(env_, to_js(env_, error).Value());
      close();
    }
  }

  void deliver(Span record) {
    // The callback may have closed us in the middle of a batch.
    if (closing_) return;
    const Napi::HandleScope scope(env_);
    try {
      on_record_.MakeCallback(env_.Global(), {Napi::Buffer<uint8_t>::Copy(env_, record.data, record.size)}, context_);
    } catch (const Napi::Error &error) {
      napi_fatal_exception(env_, error.Value());
    }
  }

  Napi::Env env_;
  std::shared_ptr<RingHandle> handle_;
  RingReader reader_;
  Napi::FunctionReference on_record_;
  Napi::AsyncContext context_;
  uint32_t budget_;
  uv_poll_t poll_ = {};
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
  bool closing_ = false;
};

class RingBufferWrap : public Wrapped<RingBufferWrap, RingHandle> {
 public:
  using Wrapped::Wrapped;

  static void define(Napi::Env env, AddonData &data) {
    data.ring_buffer =
        Napi::Persistent(DefineClass(env, "RingBuffer", {InstanceMethod<&RingBufferWrap::close>("close")}));
  }

 private:
  void close(const Napi::CallbackInfo &info) {
    if (native_->poll) native_->poll->close();
  }
};

} // namespace

Napi::Value ring_buffer(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const auto map = unwrap_map(env, info[0]);
  if (!info[1].IsFunction()) throw Napi::TypeError::New(env, "onRecord must be a function");
  uint32_t budget = kBudget;
  if (const auto wanted = option(info, 2, "budget"); wanted.IsNumber())
    budget = std::max(1u, wanted.As<Napi::Number>().Uint32Value());
  const auto handle = std::make_shared<RingHandle>();
  guarded(env, [&] { new RingPoll(env, map, info[1].As<Napi::Function>(), budget, handle); });
  return RingBufferWrap::make(env, AddonData::of(env).ring_buffer, handle);
}

void define_ring_buffer(Napi::Env env, AddonData &data) {
  RingBufferWrap::define(env, data);
}

} // namespace baton::glue
