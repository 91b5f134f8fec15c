#include "connection.h"

#include <sys/socket.h>

#include <unordered_map>

#include "convert.h"
#include "spool_handle.h"

namespace {

constexpr size_t READ_BYTES = 64 << 10;
constexpr int READS_A_TURN = 4;
constexpr uint8_t TCP_STATE_CLOSE = 7; // net/tcp_states.h

/** From a stream to its connection; only on the loop. */
std::unordered_map<const Stream *, Connection *> &connections() {
  static thread_local auto &all = *new std::unordered_map<const Stream *, Connection *>;
  return all;
}

} // namespace

Napi::Function Connection::define(Napi::Env env) {
  return DefineClass(env, "Connection",
                     {
                         InstanceAccessor<&Connection::fd>("fd"),
                         InstanceMethod<&Connection::append>("append"),
                         InstanceMethod<&Connection::setLimit>("setLimit"),
                         InstanceMethod<&Connection::sentOffset>("sentOffset"),
                         InstanceMethod<&Connection::acknowledged>("acknowledged"),
                         InstanceMethod<&Connection::timestampClock>("timestampClock"),
                         InstanceMethod<&Connection::info>("info"),
                         InstanceMethod<&Connection::pauseInput>("pauseInput"),
                         InstanceMethod<&Connection::resumeInput>("resumeInput"),
                         InstanceMethod<&Connection::closeSilently>("closeSilently"),
                         InstanceMethod<&Connection::close>("close"),
                         InstanceMethod<&Connection::detach>("detach"),
                     });
}

Connection::Connection(const Napi::CallbackInfo &info)
    : Napi::ObjectWrap<Connection>(info), instance_(Instance::of(info.Env())) {
  guarded(info.Env(), [&] {
    int fd = info[0].ToNumber();
    auto options = info[1].As<Napi::Object>();
    handlers_ = Napi::Persistent(options.Get("handlers").As<Napi::Object>());
    watcher_ = Watcher::open(instance_.loop, fd, [this](int) { readSome(); });
    try {
      stream_ = instance_.pump.add(fd, options.Get("sendOffset").ToNumber().Int64Value());
    } catch (const Failure &) {
      watcher_->close();
      throw;
    }
  });
  connections().emplace(stream_.get(), this);
  watcher_->start();
  instance_.loop.hold();
  Ref();
}

Connection::~Connection() {
  if (stream_) connections().erase(stream_.get());
}

/** @throws Napi::Error EBADF if the connection is not open any more. */
Stream &Connection::open(Napi::Env env) const {
  if (!stream_) throw instance_.error(Failure(EBADF, "connection", "none", "closed or detached"));
  return *stream_;
}

/** The end of being open: no handler any more, and the pump has been told. */
void Connection::letGo() {
  watcher_->close();
  connections().erase(stream_.get());
  stream_.reset();
  handlers_.Reset();
  instance_.loop.letGo();
  Unref();
}

Napi::Value Connection::fd(const Napi::CallbackInfo &info) {
  return Napi::Number::New(info.Env(), stream_ ? stream_->fd : -1);
}

void Connection::append(const Napi::CallbackInfo &info) {
  open(info.Env());
  guarded(info.Env(), [&] { instance_.pump.append(stream_, convert::toPieces(info[0])); });
}

void Connection::setLimit(const Napi::CallbackInfo &info) {
  open(info.Env());
  instance_.pump.setLimit(stream_, info[0].ToNumber().Int64Value());
}

Napi::Value Connection::sentOffset(const Napi::CallbackInfo &info) {
  open(info.Env());
  return Napi::Number::New(info.Env(), static_cast<double>(instance_.pump.sentOffset(stream_)));
}

Napi::Value Connection::acknowledged(const Napi::CallbackInfo &info) {
  int fd = open(info.Env()).fd;
  // In this order: bytes that are sent in between make it smaller, never larger.
  int64_t sent = instance_.pump.sentOffset(stream_);
  return guarded(info.Env(),
                 [&] { return Napi::Number::New(info.Env(), static_cast<double>(sent - sendQueueBytesOf(fd))); });
}

Napi::Value Connection::timestampClock(const Napi::CallbackInfo &info) {
  int fd = open(info.Env()).fd;
  return guarded(info.Env(), [&] { return Napi::Number::New(info.Env(), timestampClockOf(fd)); });
}

Napi::Value Connection::info(const Napi::CallbackInfo &info) {
  int fd = open(info.Env()).fd;
  return guarded(info.Env(), [&] { return convert::fromInfo(info.Env(), infoOf(fd)); });
}

void Connection::pauseInput(const Napi::CallbackInfo &info) {
  open(info.Env());
  paused_ = true;
  watcher_->pause();
}

void Connection::resumeInput(const Napi::CallbackInfo &info) {
  open(info.Env());
  if (!paused_ || inputEnded_ || failed_) return;
  paused_ = false;
  watcher_->start();
}

void Connection::closeSilently(const Napi::CallbackInfo &info) {
  open(info.Env());
  watcher_->close();
  std::shared_ptr<Stream> stream = stream_;
  letGo();
  guarded(info.Env(), [&] { instance_.pump.closeSilently(stream); });
}

void Connection::close(const Napi::CallbackInfo &info) {
  open(info.Env());
  watcher_->close();
  instance_.pump.close(stream_);
  letGo();
}

Napi::Value Connection::detach(const Napi::CallbackInfo &info) {
  open(info.Env());
  watcher_->close();
  auto detached = Napi::Object::New(info.Env());
  detached["fd"] = Napi::Number::New(info.Env(), instance_.pump.detach(stream_));
  detached["sentOffset"] = Napi::Number::New(info.Env(), static_cast<double>(instance_.pump.sentOffset(stream_)));
  letGo();
  return detached;
}

void Connection::readSome() {
  instance_.enter([this] {
    Value(); // a handle keeps this alive: a handler may close the connection
    for (int reads = 0; reads < READS_A_TURN && stream_ && !paused_; reads++) {
      if (!readOnce()) return;
    }
  });
}

/** @returns whether there may be more. */
bool Connection::readOnce() {
  static thread_local char buffer[READ_BYTES];
  ssize_t length = recv(stream_->fd, buffer, sizeof buffer, MSG_DONTWAIT);
  if (length > 0) {
    Napi::HandleScope scope(Env());
    instance_.call(handlers_.Value(), "onInput", {Napi::Buffer<char>::Copy(Env(), buffer, length)});
    return length == sizeof buffer;
  }
  if (length == 0) {
    endInput();
  } else if (errno != EAGAIN && errno != EINTR) {
    fail(Failure(errno, "", "").code());
  }
  return false;
}

void Connection::endInput() {
  // Readable for ever from now on; what else may happen to the socket is the pump's to see.
  watcher_->pause();
  bool finSent;
  {
    std::lock_guard held(stream_->lock);
    // The client may answer our FIN before the pump is back from shutdown(2).
    finSent =
        stream_->ended && (stream_->pieces.empty() || (stream_->busy && stream_->pieces.front().kind == Piece::FIN));
  }
  // A reset whose error the pump took (SO_ERROR, send) reads as an end, too.
  try {
    if (!finSent && infoOf(stream_->fd).state == TCP_STATE_CLOSE) return fail("ECONNRESET");
  } catch (const Failure &failure) {
    return fail(failure.code());
  }
  inputEnded_ = true;
  instance_.call(handlers_.Value(), "onInputEnd", {});
}

void Connection::fail(const std::string &code) {
  if (failed_) return;
  failed_ = true;
  watcher_->pause();
  instance_.call(handlers_.Value(), "onError", {Napi::String::New(Env(), code)});
}

void Connection::deliver(Instance &instance, const std::vector<Outcome> &outcomes) {
  for (const Outcome &outcome : outcomes) {
    instance.enter([&] {
      if (outcome.spool) {
        SpoolHandle::broken(instance, outcome.spool.get(), Failure(outcome.error, "", "").code());
        return;
      }
      // Not there: it was closed meanwhile.
      auto found = connections().find(outcome.stream.get());
      if (found == connections().end()) return;
      Connection &connection = *found->second;
      connection.Value(); // a handle keeps it alive
      if (outcome.error != 0) {
        connection.fail(Failure(outcome.error, "", "").code());
      } else {
        auto offset = Napi::Number::New(instance.env, static_cast<double>(outcome.drained));
        instance.call(connection.handlers_.Value(), "onDrained", {offset});
      }
    });
  }
}
