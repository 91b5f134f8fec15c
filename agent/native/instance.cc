#include "instance.h"

#include <cstdlib>
#include <mutex>
#include <unordered_set>

#include "connection.h"

namespace {

/** Environments whose threads atexit has to stop. Never destroyed: exit handlers run in no order that could be relied
 * on. */
struct Living {
  std::mutex lock;
  std::unordered_set<Instance *> instances;
};
Living &living() {
  static auto &it = *new Living;
  return it;
}

void stopAllThreads() {
  std::lock_guard held(living().lock);
  for (Instance *instance : living().instances)
    instance->stopThreads();
}

uv_loop_t *loopOf(Napi::Env env) {
  uv_loop_t *loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) throw Napi::Error::New(env, "no event loop");
  return loop;
}

} // namespace

Instance::Instance(Napi::Env env)
    : env(env), loop(loopOf(env)), pump([this](std::vector<Outcome> outcomes) {
        loop.post([this, outcomes = std::move(outcomes)] { Connection::deliver(*this, outcomes); });
      }),
      context_(env, "baton") {
  static std::once_flag once;
  std::call_once(once, [] { atexit(stopAllThreads); });
  {
    std::lock_guard held(living().lock);
    living().instances.insert(this);
  }
  napi_add_async_cleanup_hook(
      env,
      [](napi_async_cleanup_hook_handle hook, void *data) {
        auto instance = static_cast<Instance *>(data);
        {
          std::lock_guard held(living().lock);
          living().instances.erase(instance);
        }
        instance->stopThreads();
        instance->loop.shutDown([hook] { napi_remove_async_cleanup_hook(hook); });
      },
      this, &cleanup_);
}

void Instance::stopThreads() {
  pump.stop();
  hashing.stop();
  repairs.stop();
  passing.stop();
}

Napi::Error Instance::error(const Failure &failure) {
  Napi::Value made = errorClass.New({
      Napi::String::New(env, failure.code()),
      Napi::String::New(env, failure.step),
      Napi::String::New(env, failure.syscall),
      Napi::String::New(env, failure.subject),
  });
  return Napi::Error(env, made);
}

void Instance::enter(const std::function<void()> &body) {
  if (loop.isShuttingDown()) return;
  Napi::HandleScope scope(env);
  try {
    body();
  } catch (const Napi::Error &error) {
    // Without a value the environment is ending.
    if (!error.IsEmpty()) napi_fatal_exception(env, error.Value());
  }
}

void Instance::call(Napi::Object receiver, Napi::Function function, std::initializer_list<napi_value> arguments) {
  napi_value result;
  napi_status status =
      napi_make_callback(env, context_, receiver, function, arguments.size(), arguments.begin(), &result);
  if (status != napi_pending_exception) return;
  napi_value thrown;
  if (napi_get_and_clear_last_exception(env, &thrown) == napi_ok) napi_fatal_exception(env, thrown);
}

void Instance::call(Napi::Object handlers, const char *name, std::initializer_list<napi_value> arguments) {
  call(handlers, handlers.Get(name).As<Napi::Function>(), arguments);
}
