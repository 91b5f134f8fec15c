// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "error.h"
#include "link.h"
#include "map.h"
#include "object.h"
#include "program.h"

namespace baton::glue {

/** What one JavaScript environment needs of its own. */
struct AddonData {
  Napi::FunctionReference error; // class BindingError of index.ts
  Napi::FunctionReference map, program, object, link, ring_buffer, hold_queue;
  static AddonData &of(Napi::Env env) { return *env.GetInstanceData<AddonData>(); }
};

/** The error as a BindingError, ready to be thrown or to reject a promise. */
Napi::Error to_js(Napi::Env env, const Error &error);

/** Runs `body`; what it throws reaches JavaScript as a BindingError. */
template <typename Body> auto guarded(Napi::Env env, Body &&body) -> decltype(body()) {
  try {
    return body();
  } catch (const Error &error) {
    throw to_js(env, error);
  }
}

/** Argument `index` as text, bytes, ...; a TypeError otherwise. */
std::string text(const Napi::CallbackInfo &info, size_t index);
Span bytes(Napi::Env env, const Napi::Value &value);
uint64_t number_or(const Napi::CallbackInfo &info, size_t index, uint64_t otherwise);
/** A property of an options object that may be missing altogether. */
Napi::Value option(const Napi::CallbackInfo &info, size_t index, const char *name);
std::string text_or(const Napi::Value &value, const std::string &otherwise);
Napi::Value to_buffer(Napi::Env env, const Bytes &bytes);

/** Makes the JavaScript object around `native`. */
Napi::Object wrap(Napi::Env env, const std::shared_ptr<Map> &native);
Napi::Object wrap(Napi::Env env, const std::shared_ptr<Program> &native);
Napi::Object wrap(Napi::Env env, const std::shared_ptr<Object> &native);
Napi::Object wrap(Napi::Env env, const std::shared_ptr<Link> &native);

std::shared_ptr<Map> unwrap_map(Napi::Env env, const Napi::Value &value);
std::shared_ptr<Program> unwrap_program(Napi::Env env, const Napi::Value &value);

void define_map(Napi::Env env, AddonData &data);
void define_program(Napi::Env env, AddonData &data);
void define_object(Napi::Env env, AddonData &data);
void define_link(Napi::Env env, AddonData &data);
void define_ring_buffer(Napi::Env env, AddonData &data);
void define_hold_queue(Napi::Env env, AddonData &data);

} // namespace baton::glue
