// SPDX-License-Identifier: Apache-2.0
#include "glue.h"
#include "wrapped.h"

namespace baton::glue {
namespace {

class MapWrap : public Wrapped<MapWrap, Map> {
 public:
  using Wrapped::Wrapped;

  static void define(Napi::Env env, AddonData &data) {
    data.map = Napi::Persistent(DefineClass(env, "BpfMap",
                                            {
                                                InstanceAccessor<&MapWrap::name>("name"),
                                                InstanceAccessor<&MapWrap::key_size>("keySize"),
                                                InstanceAccessor<&MapWrap::value_size>("valueSize"),
                                                InstanceAccessor<&MapWrap::max_entries>("maxEntries"),
                                                InstanceMethod<&MapWrap::lookup>("lookup"),
                                                InstanceMethod<&MapWrap::update>("update"),
                                                InstanceMethod<&MapWrap::remove>("delete"),
                                                InstanceMethod<&MapWrap::update_batch>("updateBatch"),
                                                InstanceMethod<&MapWrap::remove_batch>("deleteBatch"),
                                                InstanceMethod<&MapWrap::entries>("entries"),
                                                InstanceMethod<&MapWrap::pin>("pin"),
                                                InstanceMethod<&MapWrap::close>("close"),
                                            }));
  }

 private:
  Napi::Value name(const Napi::CallbackInfo &info) { return Napi::String::New(info.Env(), native_->name()); }
  Napi::Value key_size(const Napi::CallbackInfo &info) { return Napi::Number::New(info.Env(), native_->key_size()); }
  Napi::Value value_size(const Napi::CallbackInfo &info) {
    return Napi::Number::New(info.Env(), native_->value_size());
  }
  Napi::Value max_entries(const Napi::CallbackInfo &info) {
    return Napi::Number::New(info.Env(), native_->max_entries());
  }

  Napi::Value lookup(const Napi::CallbackInfo &info) {
    const Span key = bytes(info.Env(), info[0]);
    const auto value = guarded(info.Env(), [&] { return native_->lookup(key); });
    return value ? to_buffer(info.Env(), *value) : info.Env().Undefined();
  }

  void update(const Napi::CallbackInfo &info) {
    const Span key = bytes(info.Env(), info[0]), value = bytes(info.Env(), info[1]);
    const uint64_t flags = number_or(info, 2, 0);
    guarded(info.Env(), [&] { native_->update(key, value, flags); });
  }

  Napi::Value remove(const Napi::CallbackInfo &info) {
    const Span key = bytes(info.Env(), info[0]);
    return Napi::Boolean::New(info.Env(), guarded(info.Env(), [&] { return native_->remove(key); }));
  }

  Napi::Value update_batch(const Napi::CallbackInfo &info) {
    const Span keys = bytes(info.Env(), info[0]), values = bytes(info.Env(), info[1]);
    const uint64_t flags = number_or(info, 2, 0);
    return Napi::Number::New(info.Env(),
                             guarded(info.Env(), [&] { return native_->update_batch(keys, values, flags); }));
  }

  Napi::Value remove_batch(const Napi::CallbackInfo &info) {
    const Span keys = bytes(info.Env(), info[0]);
    return Napi::Number::New(info.Env(), guarded(info.Env(), [&] { return native_->remove_batch(keys); }));
  }

  Napi::Value entries(const Napi::CallbackInfo &info) {
    const Napi::Env env = info.Env();
    const auto entries = guarded(env, [&] { return native_->entries(); });
    Napi::Array out = Napi::Array::New(env, entries.size());
    for (uint32_t i = 0; i < entries.size(); i++) {
      Napi::HandleScope scope(env);
      Napi::Array pair = Napi::Array::New(env, 2);
      pair.Set(0u, to_buffer(env, entries[i].first));
      pair.Set(1u, to_buffer(env, entries[i].second));
      out.Set(i, pair);
    }
    return out;
  }

  void pin(const Napi::CallbackInfo &info) {
    const std::string path = text(info, 0);
    guarded(info.Env(), [&] { native_->pin(path); });
  }

  void close(const Napi::CallbackInfo &info) { native_->close(); }
};

} // namespace

Napi::Object wrap(Napi::Env env, const std::shared_ptr<Map> &native) {
  return MapWrap::make(env, AddonData::of(env).map, native);
}

std::shared_ptr<Map> unwrap_map(Napi::Env env, const Napi::Value &value) {
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(AddonData::of(env).map.Value()))
    throw Napi::TypeError::New(env, "a BpfMap is needed");
  return MapWrap::Unwrap(value.As<Napi::Object>())->native();
}

void define_map(Napi::Env env, AddonData &data) {
  MapWrap::define(env, data);
}

} // namespace baton::glue
