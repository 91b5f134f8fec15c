// SPDX-License-Identifier: Apache-2.0
#include <napi.h>
#include <sys/stat.h>
#include <time.h>

#include <cerrno>

#include "glue.h"
#include "ip_packet.h"
#include "libbpf_log.h"

namespace baton::glue {

Napi::Value ring_buffer(const Napi::CallbackInfo &info);
Napi::Value hold_queue(const Napi::CallbackInfo &info);

namespace {

RodataValue to_rodata(Napi::Env env, const std::string &name, const Napi::Value &value) {
  if (value.IsBuffer()) {
    const Span span = bytes(env, value);
    return Bytes(span.data, span.data + span.size);
  }
  if (value.IsBigInt()) {
    const auto number = value.As<Napi::BigInt>();
    bool exact = false;
    const int64_t as_signed = number.Int64Value(&exact);
    if (exact) return Scalar{static_cast<uint64_t>(as_signed), as_signed < 0};
    const uint64_t as_unsigned = number.Uint64Value(&exact);
    if (exact) return Scalar{as_unsigned, false};
  } else if (value.IsNumber()) {
    const double number = value.As<Napi::Number>();
    if (number == static_cast<double>(static_cast<int64_t>(number)))
      return Scalar{static_cast<uint64_t>(static_cast<int64_t>(number)), number < 0};
  }
  throw Napi::TypeError::New(env, "rodata " + name + ": an integer of at most 64 bits or a Buffer is needed");
}

std::vector<std::string> texts(const Napi::Value &value) {
  std::vector<std::string> out;
  if (!value.IsArray()) return out;
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); i++)
    out.push_back(array.Get(i).ToString());
  return out;
}

/** Calls `each(name, value)` for an object's own properties; for undefined nothing. */
template <typename Each> void for_each_property(const Napi::Value &value, Each &&each) {
  if (!value.IsObject()) return;
  const auto object = value.As<Napi::Object>();
  const Napi::Array names = object.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); i++) {
    const std::string name = names.Get(i).ToString();
    each(name, object.Get(name));
  }
}

Napi::Value load_object(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const std::string path = text(info, 0);
  LoadOptions options;
  for_each_property(option(info, 1, "rodata"), [&](const std::string &name, const Napi::Value &value) {
    options.rodata.emplace(name, to_rodata(env, name, value));
  });
  for_each_property(option(info, 1, "maxEntries"), [&](const std::string &name, const Napi::Value &value) {
    options.max_entries.emplace(name, value.ToNumber().Uint32Value());
  });
  options.pin_dir = text_or(option(info, 1, "pinDir"), "");
  options.pin_maps = texts(option(info, 1, "pinMaps"));
  options.skip = texts(option(info, 1, "skip"));
  return wrap(env, guarded(env, [&] { return load(path, options); }));
}

Napi::Value open_pinned_map(const Napi::CallbackInfo &info) {
  const std::string path = text(info, 0);
  return wrap(info.Env(), guarded(info.Env(), [&] { return Map::open_pinned(path); }));
}

Napi::Value open_pinned_program(const Napi::CallbackInfo &info) {
  const std::string path = text(info, 0);
  return wrap(info.Env(), guarded(info.Env(), [&] { return Program::open_pinned(path); }));
}

Napi::Value netns_inode(const Napi::CallbackInfo &info) {
  struct stat status = {};
  guarded(info.Env(), [&] {
    if (stat("/proc/thread-self/ns/net", &status)) fail(errno, "stat", "/proc/thread-self/ns/net");
  });
  return Napi::Number::New(info.Env(), static_cast<double>(status.st_ino));
}

Napi::Value ifindex(const Napi::CallbackInfo &info) {
  const std::string ifname = text(info, 0);
  return Napi::Number::New(info.Env(), guarded(info.Env(), [&] { return interface_index(ifname); }));
}

void send_ip(const Napi::CallbackInfo &info) {
  const Span packet = bytes(info.Env(), info[0]);
  guarded(info.Env(), [&] { send_ip_packet(packet); });
}

Napi::Value monotonic_ns(const Napi::CallbackInfo &info) {
  struct timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return Napi::BigInt::New(info.Env(), static_cast<uint64_t>(now.tv_sec) * 1000000000u + now.tv_nsec);
}

Napi::Value cpus(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), guarded(info.Env(), [] { return possible_cpus(); }));
}

void set_error_class(const Napi::CallbackInfo &info) {
  AddonData::of(info.Env()).error = Napi::Persistent(info[0].As<Napi::Function>());
}

} // namespace

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const LibbpfLog silence;
  auto *data = new AddonData();
  env.SetInstanceData(data);
  define_map(env, *data);
  define_program(env, *data);
  define_object(env, *data);
  define_link(env, *data);
  define_ring_buffer(env, *data);
  define_hold_queue(env, *data);
  const auto add = [&](const char *name, auto function) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("load", load_object);
  add("openPinnedMap", open_pinned_map);
  add("openPinnedProgram", open_pinned_program);
  add("ringBuffer", ring_buffer);
  add("holdQueue", hold_queue);
  add("netnsInode", netns_inode);
  add("ifindex", ifindex);
  add("sendIpPacket", send_ip);
  add("monotonicNs", monotonic_ns);
  add("possibleCpus", cpus);
  add("setErrorClass", set_error_class);
  return exports;
}

} // namespace baton::glue

static Napi::Object init_module(Napi::Env env, Napi::Object exports) {
  return baton::glue::init(env, exports);
}
NODE_API_MODULE(bpf, init_module)
