#include "spool_handle.h"

#include <fcntl.h>

#include <unordered_map>

#include "convert.h"

namespace {

/** From a spool to its handle; only on the loop. */
std::unordered_map<const Spool *, SpoolHandle *> &handles() {
  static thread_local auto &all = *new std::unordered_map<const Spool *, SpoolHandle *>;
  return all;
}

} // namespace

Napi::Function SpoolHandle::define(Napi::Env env) {
  return DefineClass(env, "Spool",
                     {
                         InstanceAccessor<&SpoolHandle::fd>("fd"),
                         InstanceMethod<&SpoolHandle::filled>("filled"),
                         InstanceMethod<&SpoolHandle::put>("put"),
                         InstanceMethod<&SpoolHandle::attach>("attach"),
                         InstanceMethod<&SpoolHandle::release>("release"),
                         InstanceMethod<&SpoolHandle::known>("known"),
                         InstanceMethod<&SpoolHandle::byteAt>("byteAt"),
                         InstanceMethod<&SpoolHandle::close>("close"),
                     });
}

SpoolHandle::SpoolHandle(const Napi::CallbackInfo &info)
    : Napi::ObjectWrap<SpoolHandle>(info), instance_(Instance::of(info.Env())) {
  auto options = info[0].As<Napi::Object>();
  guarded(info.Env(), [&] {
    spool_ = std::make_shared<Spool>(options.Get("start").ToNumber().Int64Value(),
                                     options.Get("end").ToNumber().Int64Value());
  });
  onBroken_ = Napi::Persistent(options.Get("onBroken").As<Napi::Function>());
  handles().emplace(spool_.get(), this);
}

SpoolHandle::~SpoolHandle() {
  letGo();
}

void SpoolHandle::letGo() {
  if (!spool_) return;
  handles().erase(spool_.get());
  spool_.reset();
}

/** @throws Napi::Error EBADF if it is closed. */
Spool &SpoolHandle::open(Napi::Env env) const {
  if (!spool_) throw instance_.error(Failure(EBADF, "spool", "none", "closed"));
  return *spool_;
}

std::shared_ptr<Spool> SpoolHandle::of(Napi::Value value) {
  Instance &instance = Instance::of(value.Env());
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(instance.spoolClass.Value()))
    throw Napi::TypeError::New(value.Env(), "a spool is expected");
  SpoolHandle *handle = Unwrap(value.As<Napi::Object>());
  handle->open(value.Env());
  return handle->spool_;
}

void SpoolHandle::broken(Instance &instance, const Spool *spool, const std::string &code) {
  auto found = handles().find(spool); // not there: it was closed meanwhile
  // With a socket by now the report is late: if that has come to nothing as well another one follows.
  if (found == handles().end() || found->second->spool_->socket() >= 0) return;
  Napi::Object handle = found->second->Value();
  instance.call(handle, found->second->onBroken_.Value(), {Napi::String::New(instance.env, code)});
}

Napi::Value SpoolHandle::fd(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), spool_ ? spool_->file() : -1);
}

Napi::Value SpoolHandle::filled(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), static_cast<double>(open(info.Env()).filled()));
}

void SpoolHandle::put(const Napi::CallbackInfo &info) {
  Spool &spool = open(info.Env());
  guarded(info.Env(), [&] { spool.put(convert::toBytes(info[0])); });
  instance_.pump.feed(spool_);
}

void SpoolHandle::attach(const Napi::CallbackInfo &info) {
  open(info.Env());
  guarded(info.Env(), [&] {
    int fd = info[0].ToNumber();
    Descriptor own(check(fcntl(fd, F_DUPFD_CLOEXEC, 0), "spool", "fcntl(F_DUPFD_CLOEXEC)"));
    spool_->attach(std::move(own));
  });
  instance_.pump.feed(spool_);
}

void SpoolHandle::release(const Napi::CallbackInfo &info) {
  open(info.Env()).release(info[0].ToNumber().Int64Value());
}

Napi::Value SpoolHandle::known(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), static_cast<double>(open(info.Env()).known(info[0].ToNumber().Int64Value())));
}

Napi::Value SpoolHandle::byteAt(const Napi::CallbackInfo &info) {
  Spool &spool = open(info.Env());
  uint8_t byte = 0;
  guarded(info.Env(), [&] { byte = spool.byteAt(info[0].ToNumber().Int64Value()); });
  return Napi::Number::New(info.Env(), byte);
}

void SpoolHandle::close(const Napi::CallbackInfo &info) {
  letGo();
}
