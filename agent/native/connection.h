#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "instance.h"

/**
 * Connection of api.ts: input from the loop, output by the pump. Open until one of close, closeSilently and detach;
 * from then on no handler is called, not even for what was on its way. JavaScript need not hold it: it holds itself
 * while it is open.
 */
class Connection : public Napi::ObjectWrap<Connection> {
 public:
  static Napi::Function define(Napi::Env env);
  /** What the pump reported, on the loop. */
  static void deliver(Instance &instance, const std::vector<Outcome> &outcomes);

  /** (fd, {sendOffset, handlers}) */
  explicit Connection(const Napi::CallbackInfo &info);
  ~Connection() override;

 private:
  Napi::Value fd(const Napi::CallbackInfo &info);
  void append(const Napi::CallbackInfo &info);
  void setLimit(const Napi::CallbackInfo &info);
  Napi::Value sentOffset(const Napi::CallbackInfo &info);
  Napi::Value acknowledged(const Napi::CallbackInfo &info);
  Napi::Value timestampClock(const Napi::CallbackInfo &info);
  Napi::Value info(const Napi::CallbackInfo &info);
  void pauseInput(const Napi::CallbackInfo &info);
  void resumeInput(const Napi::CallbackInfo &info);
  void closeSilently(const Napi::CallbackInfo &info);
  void close(const Napi::CallbackInfo &info);
  Napi::Value detach(const Napi::CallbackInfo &info);

  void readSome();
  bool readOnce();
  void endInput();
  void fail(const std::string &code);
  void letGo();
  Stream &open(Napi::Env env) const;

  Instance &instance_;
  std::shared_ptr<Stream> stream_; // none: not open any more
  Watcher *watcher_ = nullptr;
  Napi::ObjectReference handlers_;
  bool paused_ = false;
  bool inputEnded_ = false;
  bool failed_ = false;
};
