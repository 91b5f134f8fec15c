// SPDX-License-Identifier: Apache-2.0
#include "glue.h"
#include "wrapped.h"

namespace baton::glue {
namespace {

class ProgramWrap : public Wrapped<ProgramWrap, Program> {
 public:
  using Wrapped::Wrapped;

  static void define(Napi::Env env, AddonData &data) {
    data.program = Napi::Persistent(DefineClass(env, "BpfProgram",
                                                {
                                                    InstanceAccessor<&ProgramWrap::name>("name"),
                                                    InstanceAccessor<&ProgramWrap::type>("type"),
                                                    InstanceMethod<&ProgramWrap::pin>("pin"),
                                                    InstanceMethod<&ProgramWrap::test_run>("testRun"),
                                                    InstanceMethod<&ProgramWrap::attach_xdp>("attachXdp"),
                                                    InstanceMethod<&ProgramWrap::attach_tc>("attachTc"),
                                                    InstanceMethod<&ProgramWrap::attach_cgroup>("attachCgroup"),
                                                    InstanceMethod<&ProgramWrap::attach_tracing>("attachTracing"),
                                                }));
  }

 private:
  Napi::Value name(const Napi::CallbackInfo &info) { return Napi::String::New(info.Env(), native_->name()); }
  Napi::Value type(const Napi::CallbackInfo &info) { return Napi::String::New(info.Env(), native_->type()); }

  void pin(const Napi::CallbackInfo &info) {
    const std::string path = text(info, 0);
    guarded(info.Env(), [&] { native_->pin(path); });
  }

  Napi::Value test_run(const Napi::CallbackInfo &info) {
    const Napi::Env env = info.Env();
    TestRunOptions options;
    if (const auto data = option(info, 0, "data"); !data.IsUndefined()) options.data = bytes(env, data);
    if (const auto context = option(info, 0, "context"); !context.IsUndefined()) options.context = bytes(env, context);
    if (const auto repeat = option(info, 0, "repeat"); repeat.IsNumber())
      options.repeat = repeat.As<Napi::Number>().Uint32Value();
    if (const auto index = option(info, 0, "ingressIfindex"); index.IsNumber())
      options.ingress_ifindex = index.As<Napi::Number>().Uint32Value();

    const TestRunResult result = guarded(env, [&] { return native_->test_run(options); });
    Napi::Object out = Napi::Object::New(env);
    out.Set("retval", Napi::Number::New(env, result.retval));
    out.Set("dataOut", to_buffer(env, result.data_out));
    out.Set("durationNs", Napi::Number::New(env, result.duration_ns));
    if (result.context_out) out.Set("contextOut", to_buffer(env, *result.context_out));
    return out;
  }

  Napi::Value attach_xdp(const Napi::CallbackInfo &info) {
    const std::string ifname = text(info, 0), pin = text_or(option(info, 1, "pin"), "");
    const bool generic = option(info, 1, "generic").ToBoolean();
    return wrap(info.Env(),
                guarded(info.Env(), [&] { return baton::attach_xdp(native_->fd(), ifname, generic, pin); }));
  }

  Napi::Value attach_tc(const Napi::CallbackInfo &info) {
    const std::string ifname = text(info, 0), direction = text(info, 1), pin = text_or(option(info, 2, "pin"), "");
    if (direction != "ingress" && direction != "egress")
      throw Napi::TypeError::New(info.Env(), "the direction is ingress or egress");
    return wrap(info.Env(),
                guarded(info.Env(), [&] { return attach_tcx(native_->fd(), ifname, direction == "ingress", pin); }));
  }

  Napi::Value attach_cgroup(const Napi::CallbackInfo &info) {
    const std::string path = text(info, 0), pin = text_or(option(info, 1, "pin"), "");
    return wrap(info.Env(), guarded(info.Env(), [&] { return attach_sock_ops(native_->fd(), path, pin); }));
  }

  Napi::Value attach_tracing(const Napi::CallbackInfo &info) {
    const std::string pin = text_or(option(info, 0, "pin"), "");
    return wrap(info.Env(),
                guarded(info.Env(), [&] { return baton::attach_tracing(native_->fd(), native_->name(), pin); }));
  }
};

} // namespace

Napi::Object wrap(Napi::Env env, const std::shared_ptr<Program> &native) {
  return ProgramWrap::make(env, AddonData::of(env).program, native);
}

std::shared_ptr<Program> unwrap_program(Napi::Env env, const Napi::Value &value) {
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(AddonData::of(env).program.Value()))
    throw Napi::TypeError::New(env, "a BpfProgram is needed");
  return ProgramWrap::Unwrap(value.As<Napi::Object>())->native();
}

void define_program(Napi::Env env, AddonData &data) {
  ProgramWrap::define(env, data);
}

} // namespace baton::glue
