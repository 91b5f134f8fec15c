// SPDX-License-Identifier: Apache-2.0
#include "glue.h"

namespace baton::glue {

Napi::Error to_js(Napi::Env env, const Error &error) {
  Napi::Object details = Napi::Object::New(env);
  details.Set("code", error.code);
  details.Set("syscall", error.syscall);
  details.Set("subject", error.subject);
  details.Set("log", error.log);
  Napi::Object value = AddonData::of(env).error.New({Napi::String::New(env, error.what()), details});
  return Napi::Error(env, value);
}

std::string text(const Napi::CallbackInfo &info, size_t index) {
  if (!info[index].IsString())
    throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(index + 1) + " must be a string");
  return info[index].As<Napi::String>();
}

Span bytes(Napi::Env env, const Napi::Value &value) {
  if (!value.IsBuffer()) throw Napi::TypeError::New(env, "a Buffer is needed");
  const auto buffer = value.As<Napi::Buffer<uint8_t>>();
  return {buffer.Data(), buffer.Length()};
}

uint64_t number_or(const Napi::CallbackInfo &info, size_t index, uint64_t otherwise) {
  if (info[index].IsUndefined()) return otherwise;
  if (!info[index].IsNumber())
    throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(index + 1) + " must be a number");
  return static_cast<uint64_t>(info[index].As<Napi::Number>().Int64Value());
}

Napi::Value option(const Napi::CallbackInfo &info, size_t index, const char *name) {
  if (!info[index].IsObject()) return info.Env().Undefined();
  return info[index].As<Napi::Object>().Get(name);
}

std::string text_or(const Napi::Value &value, const std::string &otherwise) {
  return value.IsString() ? value.As<Napi::String>().Utf8Value() : otherwise;
}

Napi::Value to_buffer(Napi::Env env, const Bytes &bytes) {
  return Napi::Buffer<uint8_t>::Copy(env, bytes.data(), bytes.size());
}

} // namespace baton::glue
