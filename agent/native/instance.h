#pragma once

#include <napi.h>

#include <functional>
#include <initializer_list>
#include <string>
#include <unordered_map>

#include "failure.h"
#include "loop.h"
#include "pump.h"
#include "segment.h"
#include "worker.h"

/**
 * All that one JavaScript environment has of this addon. Made when the addon is loaded; the environment's end stops the
 * threads and closes the handles before the environment goes. An exit by process.exit runs none of that: threads are
 * stopped by atexit.
 */
class Instance {
 public:
  explicit Instance(Napi::Env env);
  Instance(const Instance &) = delete;

  static Instance &of(Napi::Env env) { return *env.GetInstanceData<Instance>(); }

  /** TcpError of index.ts, made from a Failure. */
  Napi::Error error(const Failure &failure);
  /**
   * Every callback of the loop that makes JavaScript values runs in here: an environment that is ending refuses them at
   * any moment, and nothing may be thrown through libuv.
   */
  void enter(const std::function<void()> &body);
  /** Calls into JavaScript from within `enter`. What it throws becomes an uncaught exception. */
  void call(Napi::Object receiver, Napi::Function function, std::initializer_list<napi_value> arguments);
  /** As above, for a method of a handlers object. */
  void call(Napi::Object handlers, const char *name, std::initializer_list<napi_value> arguments);

  /**
   * Keeps what has a `close` open until that is called, by `shut` or by the end of the environment, whatever the
   * garbage collector thinks of the object that JavaScript got for it. @returns a number for `shut`
   */
  uint64_t keepOpen(std::function<void()> close);
  /** Runs the `close` of that number, once. */
  void shut(uint64_t number);

  void stopThreads();

  Napi::Env env;
  Loop loop;
  Pump pump;
  Worker hashing{"baton-hash", 10};
  Worker repairs{"baton-repair", 0};
  Worker passing{"baton-descriptor", 0};
  SegmentSender segments;
  Napi::FunctionReference errorClass;
  Napi::FunctionReference connectionClass;
  Napi::FunctionReference spoolClass;

 private:
  Napi::AsyncContext context_;
  std::unordered_map<uint64_t, std::function<void()>> kept_;
  uint64_t nextKept_ = 0;
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
};

/** Runs `body`, whose Failure becomes a JavaScript exception. */
template <typename Body> auto guarded(Napi::Env env, Body body) {
  try {
    return body();
  } catch (const Failure &failure) {
    throw Instance::of(env).error(failure);
  }
}
