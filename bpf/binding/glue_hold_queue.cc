// SPDX-License-Identifier: Apache-2.0
#include <node_api.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "glue.h"
#include "hold_queue.h"

namespace baton::glue {
namespace {

// Of each kind of news in one turn of the event loop.
constexpr size_t kNewsATurn = 1024;

FlowKey flow_key(Napi::Env env, const Napi::Value &value) {
  const Span span = bytes(env, value);
  FlowKey key;
  if (span.size != key.size()) throw Napi::TypeError::New(env, "a flow has 40 bytes");
  std::copy_n(span.data, key.size(), key.begin());
  return key;
}

Napi::Value flow_buffer(Napi::Env env, const FlowKey &key) {
  return Napi::Buffer<uint8_t>::Copy(env, key.data(), key.size());
}

/** The assignments of one call, until the last of them is over. */
struct Batch {
  Napi::Promise::Deferred deferred;
  std::vector<HoldOutcome> outcomes;
  size_t missing;
  bool single;
};

class HoldQueueWrap;

/** What the thread-safe function knows of its queue; it may outlive it. */
struct NewsContext {
  HoldQueueWrap *owner;
};

/**
 * JavaScript's side of a HoldQueue. News comes by a thread-safe function that is called once for many pieces of news.
 * It keeps the process alive only while an assignment is under way. Until close() the object is kept from garbage
 * collection.
 */
class HoldQueueWrap : public Napi::ObjectWrap<HoldQueueWrap> {
 public:
  explicit HoldQueueWrap(const Napi::CallbackInfo &info) : ObjectWrap(info) {
    if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "illegal constructor");
    const Napi::Env env = info.Env();
    on_held_ = Napi::Persistent(info[1].As<Napi::Function>());
    on_bounced_ = Napi::Persistent(info[2].As<Napi::Function>());
    const HoldConfig &config = *info[0].As<Napi::External<HoldConfig>>().Data();
    context_ = new NewsContext{this};
    napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "baton:hold_queue"), 0, 1, context_,
                                    finalize_news, context_, call_news, &news_);
    napi_unref_threadsafe_function(env, news_);
    try {
      queue_ = std::make_unique<HoldQueue>(
          config, [news = news_] { napi_call_threadsafe_function(news, nullptr, napi_tsfn_nonblocking); });
    } catch (const Error &error) {
      release_news();
      throw to_js(env, error);
    }
    napi_add_env_cleanup_hook(env, end_with_environment, this);
    Ref();
  }

  static void define(Napi::Env env, AddonData &data) {
    data.hold_queue = Napi::Persistent(DefineClass(env, "HoldQueue",
                                                   {
                                                       InstanceMethod<&HoldQueueWrap::assign>("assign"),
                                                       InstanceMethod<&HoldQueueWrap::assign_batch>("assignBatch"),
                                                       InstanceMethod<&HoldQueueWrap::drop>("drop"),
                                                       InstanceMethod<&HoldQueueWrap::forget>("forget"),
                                                       InstanceMethod<&HoldQueueWrap::flows>("flows"),
                                                       InstanceMethod<&HoldQueueWrap::stats>("stats"),
                                                       InstanceMethod<&HoldQueueWrap::send>("send"),
                                                       InstanceMethod<&HoldQueueWrap::close>("close"),
                                                   }));
  }

 private:
  // ---- calls ----

  HoldQueue &queue(Napi::Env env) {
    if (!queue_) throw to_js(env, Error("EBADF", "holdQueue", "", "it is closed"));
    return *queue_;
  }

  static HoldAssignment assignment(Napi::Env env, uint64_t id, const Napi::Value &flow, const Napi::Value &slot,
                                   const Napi::Value &mac) {
    HoldAssignment out{id, flow_key(env, flow), static_cast<uint16_t>(slot.ToNumber().Uint32Value()), {}};
    const Span address = bytes(env, mac);
    if (address.size != out.mac.size()) throw Napi::TypeError::New(env, "a MAC has 6 bytes");
    std::copy_n(address.data, out.mac.size(), out.mac.begin());
    return out;
  }

  Napi::Value start(Napi::Env env, std::vector<HoldAssignment> items, bool single) {
    const auto deferred = Napi::Promise::Deferred::New(env);
    if (items.empty()) {
      deferred.Resolve(Napi::Array::New(env));
      return deferred.Promise();
    }
    if (batches_.empty()) napi_ref_threadsafe_function(env, news_);
    batches_.emplace(last_batch_, Batch{deferred, std::vector<HoldOutcome>(items.size()), items.size(), single});
    queue(env).assign(std::move(items));
    return deferred.Promise();
  }

  static uint64_t item_id(uint32_t batch, uint32_t index) { return static_cast<uint64_t>(batch) << 32 | index; }

  Napi::Value assign(const Napi::CallbackInfo &info) {
    const Napi::Env env = info.Env();
    queue(env);
    return start(env, {assignment(env, item_id(++last_batch_, 0), info[0], info[1], info[2])}, true);
  }

  Napi::Value assign_batch(const Napi::CallbackInfo &info) {
    const Napi::Env env = info.Env();
    queue(env);
    if (!info[0].IsArray()) throw Napi::TypeError::New(env, "an array is needed");
    const auto array = info[0].As<Napi::Array>();
    std::vector<HoldAssignment> items;
    last_batch_++;
    for (uint32_t i = 0; i < array.Length(); i++) {
      const Napi::HandleScope scope(env);
      const auto item = array.Get(i).As<Napi::Object>();
      items.push_back(assignment(env, item_id(last_batch_, i), item.Get("flow"), item.Get("slot"), item.Get("mac")));
    }
    return start(env, std::move(items), false);
  }

  Napi::Value drop(const Napi::CallbackInfo &info) {
    return Napi::Number::New(info.Env(), queue(info.Env()).drop(flow_key(info.Env(), info[0])));
  }

  void forget(const Napi::CallbackInfo &info) { queue(info.Env()).forget(flow_key(info.Env(), info[0])); }

  Napi::Value flows(const Napi::CallbackInfo &info) {
    const Napi::Env env = info.Env();
    const auto snapshots = queue(env).flows();
    Napi::Array out = Napi::Array::New(env, snapshots.size());
    for (uint32_t i = 0; i < snapshots.size(); i++) {
      const Napi::HandleScope scope(env);
      const HoldSnapshot &snapshot = snapshots[i];
      Napi::Object item = Napi::Object::New(env);
      item.Set("flow", flow_buffer(env, snapshot.flow));
      item.Set("packets", Napi::Number::New(env, snapshot.packets));
      item.Set("bytes", Napi::Number::New(env, static_cast<double>(snapshot.bytes)));
      item.Set("first", to_buffer(env, snapshot.first));
      item.Set("last", to_buffer(env, snapshot.last));
      item.Set("sinceNs", Napi::BigInt::New(env, snapshot.since_ns));
      out.Set(i, item);
    }
    return out;
  }

  Napi::Value stats(const Napi::CallbackInfo &info) {
    const Napi::Env env = info.Env();
    const HoldStats &stats = queue(env).stats();
    Napi::Object out = Napi::Object::New(env);
    const auto set = [&](const char *name, const std::atomic<uint64_t> &value) {
      out.Set(name, Napi::Number::New(env, static_cast<double>(value.load())));
    };
    set("packets", stats.packets);
    set("bytes", stats.bytes);
    set("flows", stats.flows);
    set("dropped", stats.dropped);
    set("sent", stats.sent);
    return out;
  }

  void send(const Napi::CallbackInfo &info) {
    const Span frame = bytes(info.Env(), info[0]);
    HoldQueue &open = queue(info.Env());
    guarded(info.Env(), [&] { open.send(frame); });
  }

  void close(const Napi::CallbackInfo &info) {
    if (!queue_) return;
    const Napi::Env env = info.Env();
    queue_.reset();
    napi_remove_env_cleanup_hook(env, end_with_environment, this);
    for (auto &[id, batch] : std::exchange(batches_, {}))
      batch.deferred.Reject(to_js(env, Error("ECANCELED", "assign", "", "the queue was closed")).Value());
    release_news();
    Unref();
  }

  // ---- news ----

  static void call_news(napi_env env, napi_value, void *context, void *) {
    // Without an environment it is shutting down.
    if (!env) return;
    try {
      if (auto *owner = static_cast<NewsContext *>(context)->owner) owner->tell(env);
    } catch (const Napi::Error &error) {
      napi_fatal_exception(env, error.Value());
    }
  }

  void tell(Napi::Env env) {
    if (!queue_) return;
    const HoldNews::Batch news = queue_->news().take(kNewsATurn);
    if (news.more) napi_call_threadsafe_function(news_, nullptr, napi_tsfn_nonblocking);
    // Promises first: what a callback throws must not keep anybody waiting.
    for (const HoldOutcome &outcome : news.outcomes)
      settle(env, outcome);
    if (!news.held.empty()) tell_held(env, news.held);
    if (!news.bounced.empty()) tell_bounced(env, news.bounced);
  }

  void tell_held(Napi::Env env, const std::vector<FlowKey> &held) {
    Napi::Array flows = Napi::Array::New(env, held.size());
    for (uint32_t i = 0; i < held.size(); i++)
      flows.Set(i, flow_buffer(env, held[i]));
    call(env, on_held_, flows);
  }

  void tell_bounced(Napi::Env env, const std::vector<BouncedPacket> &bounced) {
    Napi::Array packets = Napi::Array::New(env, bounced.size());
    for (uint32_t i = 0; i < bounced.size(); i++) {
      Napi::Object item = Napi::Object::New(env);
      item.Set("flow", flow_buffer(env, bounced[i].flow));
      item.Set("slot", Napi::Number::New(env, bounced[i].slot));
      item.Set("frame", to_buffer(env, bounced[i].frame));
      packets.Set(i, item);
    }
    call(env, on_bounced_, packets);
  }

  static void call(Napi::Env env, const Napi::FunctionReference &function, const Napi::Value &argument) {
    try {
      function.Call({argument});
    } catch (const Napi::Error &error) {
      napi_fatal_exception(env, error.Value());
    }
  }

  void settle(Napi::Env env, const HoldOutcome &outcome) {
    const auto found = batches_.find(static_cast<uint32_t>(outcome.assignment >> 32));
    if (found == batches_.end()) return;
    Batch &batch = found->second;
    batch.outcomes[outcome.assignment & 0xffffffffu] = outcome;
    if (--batch.missing > 0) return;
    if (!batch.single)
      batch.deferred.Resolve(results(env, batch.outcomes));
    else if (batch.outcomes[0].error)
      batch.deferred.Reject(to_js(env, *batch.outcomes[0].error).Value());
    else
      batch.deferred.Resolve(result(env, batch.outcomes[0]));
    batches_.erase(found);
    if (batches_.empty()) napi_unref_threadsafe_function(env, news_);
  }

  static Napi::Value result(Napi::Env env, const HoldOutcome &outcome) {
    Napi::Object out = Napi::Object::New(env);
    out.Set("packets", Napi::Number::New(env, outcome.packets));
    out.Set("heldUs", Napi::Number::New(env, static_cast<double>(outcome.held_us)));
    if (outcome.error) out.Set("error", Napi::String::New(env, outcome.error->what()));
    return out;
  }

  static Napi::Value results(Napi::Env env, const std::vector<HoldOutcome> &outcomes) {
    Napi::Array out = Napi::Array::New(env, outcomes.size());
    for (uint32_t i = 0; i < outcomes.size(); i++)
      out.Set(i, result(env, outcomes[i]));
    return out;
  }

  // ---- ends ----

  void release_news() {
    context_->owner = nullptr;
    napi_release_threadsafe_function(news_, napi_tsfn_release);
  }

  static void finalize_news(napi_env, void *context, void *) { delete static_cast<NewsContext *>(context); }

  /** The thread has to stop before its thread-safe function goes; JavaScript cannot be told anything any more. */
  static void end_with_environment(void *data) {
    auto *self = static_cast<HoldQueueWrap *>(data);
    self->queue_.reset();
    self->context_->owner = nullptr;
  }

  Napi::FunctionReference on_held_, on_bounced_;
  NewsContext *context_ = nullptr;
  napi_threadsafe_function news_ = nullptr;
  std::unique_ptr<HoldQueue> queue_;
  std::unordered_map<uint32_t, Batch> batches_;
  uint32_t last_batch_ = 0;
};

Napi::Function function_option(const Napi::CallbackInfo &info, const char *name) {
  const Napi::Value value = option(info, 0, name);
  if (!value.IsFunction()) throw Napi::TypeError::New(info.Env(), std::string(name) + " must be a function");
  return value.As<Napi::Function>();
}

} // namespace

Napi::Value hold_queue(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  HoldConfig config{
      .held_packets = unwrap_map(env, option(info, 0, "heldPackets")),
      .holds = unwrap_map(env, option(info, 0, "holds")),
      .release = unwrap_program(env, option(info, 0, "release")),
      .interface = text_or(option(info, 0, "interface"), ""),
      .max_bytes = static_cast<uint64_t>(option(info, 0, "maxBytes").ToNumber().Int64Value()),
      .max_packets = option(info, 0, "maxPackets").ToNumber().Uint32Value(),
  };
  return AddonData::of(env).hold_queue.New({Napi::External<HoldConfig>::New(env, &config),
                                            function_option(info, "onHeld"), function_option(info, "onBounced")});
}

void define_hold_queue(Napi::Env env, AddonData &data) {
  HoldQueueWrap::define(env, data);
}

} // namespace baton::glue
