// SPDX-License-Identifier: Apache-2.0
#include "glue.h"
#include "wrapped.h"

namespace baton::glue {
namespace {

class LinkWrap : public Wrapped<LinkWrap, Link> {
 public:
  // A link that nobody looks at any more still has to hold: garbage collection must not detach a program.
  explicit LinkWrap(const Napi::CallbackInfo &info) : Wrapped(info) { Ref(); }

  static void define(Napi::Env env, AddonData &data) {
    data.link = Napi::Persistent(DefineClass(env, "BpfLink",
                                             {
                                                 InstanceMethod<&LinkWrap::detach>("detach"),
                                                 InstanceMethod<&LinkWrap::close>("close"),
                                             }));
  }

 private:
  void detach(const Napi::CallbackInfo &info) {
    guarded(info.Env(), [&] { native_->detach(); });
    let_go();
  }

  void close(const Napi::CallbackInfo &info) {
    native_->close();
    let_go();
  }

  void let_go() {
    if (held_) Unref();
    held_ = false;
  }

  bool held_ = true;
};

} // namespace

Napi::Object wrap(Napi::Env env, const std::shared_ptr<Link> &native) {
  return LinkWrap::make(env, AddonData::of(env).link, native);
}

void define_link(Napi::Env env, AddonData &data) {
  LinkWrap::define(env, data);
}

} // namespace baton::glue
