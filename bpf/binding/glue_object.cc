// SPDX-License-Identifier: Apache-2.0
#include "glue.h"
#include "wrapped.h"

namespace baton::glue {
namespace {

class ObjectWrap : public Wrapped<ObjectWrap, Object> {
 public:
  using Wrapped::Wrapped;

  static void define(Napi::Env env, AddonData &data) {
    data.object = Napi::Persistent(DefineClass(env, "BpfObject",
                                               {
                                                   InstanceMethod<&ObjectWrap::program>("program"),
                                                   InstanceMethod<&ObjectWrap::map>("map"),
                                                   InstanceAccessor<&ObjectWrap::programs>("programs"),
                                                   InstanceAccessor<&ObjectWrap::maps>("maps"),
                                                   InstanceMethod<&ObjectWrap::close>("close"),
                                               }));
  }

 private:
  template <typename List> Napi::Value find(const Napi::CallbackInfo &info, const List &list, const char *what) {
    const std::string name = text(info, 0);
    for (const auto &item : list) {
      if (item->name() == name) return wrap(info.Env(), item);
    }
    throw to_js(info.Env(), Error("ENOENT", "object", name, std::string("no such ") + what + " in " + native_->path));
  }

  template <typename List> Napi::Value names(const Napi::CallbackInfo &info, const List &list) {
    Napi::Array out = Napi::Array::New(info.Env(), list.size());
    for (uint32_t i = 0; i < list.size(); i++)
      out.Set(i, list[i]->name());
    return out;
  }

  Napi::Value program(const Napi::CallbackInfo &info) { return find(info, native_->programs, "program"); }
  Napi::Value map(const Napi::CallbackInfo &info) { return find(info, native_->maps, "map"); }
  Napi::Value programs(const Napi::CallbackInfo &info) { return names(info, native_->programs); }
  Napi::Value maps(const Napi::CallbackInfo &info) { return names(info, native_->maps); }

  // Maps and programs that JavaScript still has stay usable; the object only lets go of its own.
  void close(const Napi::CallbackInfo &info) {
    native_->maps.clear();
    native_->programs.clear();
  }
};

} // namespace

Napi::Object wrap(Napi::Env env, const std::shared_ptr<Object> &native) {
  return ObjectWrap::make(env, AddonData::of(env).object, native);
}

void define_object(Napi::Env env, AddonData &data) {
  ObjectWrap::define(env, data);
}

} // namespace baton::glue
