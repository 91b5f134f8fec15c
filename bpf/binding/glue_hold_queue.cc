// SPDX-License-Identifier: Apache-2.0
#include "glue.h"

namespace baton::glue {

Napi::Value hold_queue(const Napi::CallbackInfo& info) {
  throw to_js(info.Env(), Error("ENOSYS", "holdQueue", "", ""));
}

void define_hold_queue(Napi::Env env, AddonData& data) {}

}  // namespace baton::glue
