// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <memory>

namespace baton::glue {

/** A JavaScript object around a native one that others may share. Only C++ can construct it. */
template <typename Self, typename Native> class Wrapped : public Napi::ObjectWrap<Self> {
 public:
  explicit Wrapped(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Self>(info) {
    if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "illegal constructor");
    native_ = *info[0].As<Napi::External<std::shared_ptr<Native>>>().Data();
  }

  static Napi::Object make(Napi::Env env, const Napi::FunctionReference &constructor,
                           const std::shared_ptr<Native> &native) {
    auto *pointer = const_cast<std::shared_ptr<Native> *>(&native);
    return constructor.New({Napi::External<std::shared_ptr<Native>>::New(env, pointer)});
  }

  const std::shared_ptr<Native> &native() const { return native_; }

 protected:
  std::shared_ptr<Native> native_;
};

} // namespace baton::glue
