#pragma once

#include <napi.h>

#include <memory>

#include "instance.h"

/** Spool of api.ts. Its file stays open until `close`, and while a connection sends from it. */
class SpoolHandle : public Napi::ObjectWrap<SpoolHandle> {
 public:
  static Napi::Function define(Napi::Env env);
  /** Of a JavaScript object made by `spool`. @throws Napi::TypeError */
  static std::shared_ptr<Spool> of(Napi::Value value);
  /** What the pump reported, on the loop, within `enter`. */
  static void broken(Instance &instance, const Spool *spool, const std::string &code);

  /** ({start, end, onBroken}) */
  explicit SpoolHandle(const Napi::CallbackInfo &info);
  ~SpoolHandle() override;

 private:
  Napi::Value fd(const Napi::CallbackInfo &info);
  Napi::Value filled(const Napi::CallbackInfo &info);
  void put(const Napi::CallbackInfo &info);
  void attach(const Napi::CallbackInfo &info);
  void release(const Napi::CallbackInfo &info);
  Napi::Value known(const Napi::CallbackInfo &info);
  Napi::Value byteAt(const Napi::CallbackInfo &info);
  void close(const Napi::CallbackInfo &info);

  Spool &open(Napi::Env env) const;
  void letGo();

  Instance &instance_;
  std::shared_ptr<Spool> spool_; // none: closed
  Napi::FunctionReference onBroken_;
};
