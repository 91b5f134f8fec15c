#include <napi.h>
#include <time.h>
#include <unistd.h>

#include "connection.h"
#include "convert.h"
#include "descriptors.h"
#include "diag.h"
#include "dialing.h"
#include "digest.h"
#include "file.h"
#include "instance.h"
#include "listener.h"
#include "process.h"
#include "repair.h"
#include "spool_handle.h"

/** The members of Native (api.ts) that need no object of their own: conversions around one call each. */
namespace {

using Info = Napi::CallbackInfo;

int fdOf(const Info &info) {
  return info[0].ToNumber().Int32Value();
}

/** {close()} for what the instance keeps open under `number`. */
Napi::Object closable(Instance &instance, uint64_t number) {
  auto made = Napi::Object::New(instance.env);
  made["close"] = Napi::Function::New(instance.env, [&instance, number](const Info &) { instance.shut(number); });
  return made;
}

std::shared_ptr<Napi::FunctionReference> keep(Napi::Value function) {
  return std::make_shared<Napi::FunctionReference>(Napi::Persistent(function.As<Napi::Function>()));
}

/** Runs `work` on a worker thread; `answer` turns its result into what the promise resolves to, on the loop. */
template <typename Result>
Napi::Value promise(Napi::Env env, Worker &worker, std::function<Result()> work,
                    std::function<Napi::Value(Napi::Env, const Result &)> answer) {
  Instance &instance = Instance::of(env);
  auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  instance.loop.hold();
  worker.run([&instance, deferred, work, answer] {
    std::shared_ptr<Result> result;
    Failure failure(0, "", "");
    try {
      result = std::make_shared<Result>(work());
    } catch (const Failure &thrown) {
      failure = thrown;
    }
    instance.loop.post([&instance, deferred, answer, result, failure] {
      instance.loop.letGo();
      instance.enter([&] {
        Napi::Env env = instance.env;
        // Settled inside a callback, so that what awaits it runs at once.
        auto settle = Napi::Function::New(env, [&](const Info &) {
          if (result)
            deferred->Resolve(answer(env, *result));
          else
            deferred->Reject(instance.error(failure).Value());
        });
        instance.call(Napi::Object::New(env), settle, {});
      });
    });
  });
  return deferred->Promise();
}

// ---- connections ----

/** @param make makes the listener, which calls back with what it accepted */
Napi::Value listening(Napi::Env env, Napi::Value onAcceptFunction,
                      const std::function<std::shared_ptr<Listener>(Listener::Accept)> &make) {
  Instance &instance = Instance::of(env);
  auto onAccept = keep(onAcceptFunction);
  auto accept = [&instance, onAccept](std::vector<Accepted> batch) {
    instance.enter([&] {
      Napi::Env env = instance.env;
      auto made = Napi::Array::New(env, batch.size());
      for (size_t i = 0; i < batch.size(); i++) {
        auto item = Napi::Object::New(env);
        item["fd"] = Napi::Number::New(env, batch[i].fd);
        item["endpoints"] = convert::fromEndpoints(env, batch[i].ends);
        made[i] = item;
      }
      instance.call(Napi::Object::New(env), onAccept->Value(), {made});
    });
  };
  auto listener = guarded(env, [&] { return make(accept); });
  uint64_t number = instance.keepOpen([listener] { listener->close(); });
  Napi::Object made = closable(instance, number);
  made["port"] = Napi::Number::New(env, listener->port());
  made["detach"] = Napi::Function::New(env, [&instance, number, listener](const Info &info) {
    int fd = listener->detach().release();
    instance.shut(number);
    return Napi::Number::New(info.Env(), fd);
  });
  return made;
}

Napi::Value listenAt(const Info &info) {
  auto options = info[0].As<Napi::Object>();
  Napi::Value receiveBuffer = options.Get("receiveBuffer");
  return listening(info.Env(), options.Get("onAccept"), [&](Listener::Accept accept) {
    return std::make_shared<Listener>(Instance::of(info.Env()).loop, convert::toAddress(options),
                                      options.Get("backlog").ToNumber().Int32Value(),
                                      receiveBuffer.IsNumber() ? receiveBuffer.ToNumber().Uint32Value() : 0, accept);
  });
}

Napi::Value listenOn(const Info &info) {
  return listening(info.Env(), info[1], [&](Listener::Accept accept) {
    return std::make_shared<Listener>(Instance::of(info.Env()).loop, Descriptor(fdOf(info)), accept);
  });
}

/** {close()}; onDone gets (fd, code), one of which is undefined. */
Napi::Value dial(const Info &info) {
  Instance &instance = Instance::of(info.Env());
  auto options = info[0].As<Napi::Object>();
  auto onDone = keep(options.Get("onDone"));
  auto number = std::make_shared<uint64_t>(0);
  auto done = [&instance, onDone, number](Descriptor socket, const char *code) {
    auto fd = std::make_shared<Descriptor>(std::move(socket));
    instance.enter([&] {
      Napi::Env env = instance.env;
      Napi::Value what = code ? env.Undefined() : Napi::Number::New(env, fd->release());
      Napi::Value why = code ? Napi::String::New(env, code) : env.Undefined();
      instance.call(Napi::Object::New(env), onDone->Value(), {what, why});
    });
    instance.loop.post([&instance, number] { instance.shut(*number); });
  };
  auto dialing = guarded(info.Env(), [&] {
    return std::make_shared<Dialing>(instance.loop, convert::toEndpoints(options.Get("endpoints")),
                                     options.Get("receiveBuffer").ToNumber().Uint32Value(), done);
  });
  *number = instance.keepOpen([dialing] { dialing->close(); });
  return closable(instance, *number);
}

Napi::Value connection(const Info &info) {
  return Instance::of(info.Env()).connectionClass.New({info[0], info[1]});
}

Napi::Value spool(const Info &info) {
  return Instance::of(info.Env()).spoolClass.New({info[0]});
}

Napi::Value infoOfFd(const Info &info) {
  return guarded(info.Env(), [&] { return convert::fromInfo(info.Env(), infoOf(fdOf(info))); });
}

Napi::Value endpointsOfFd(const Info &info) {
  return guarded(info.Env(), [&] { return convert::fromEndpoints(info.Env(), endpointsOf(fdOf(info))); });
}

// ---- repair ----

Napi::Value prepareSocket(const Info &info) {
  return guarded(info.Env(), [&] { return Napi::Number::New(info.Env(), prepare(convert::toEndpoints(info[0]))); });
}

void rebuildSocket(const Info &info) {
  guarded(info.Env(), [&] { rebuild(fdOf(info), convert::toImage(info[1])); });
}

void activateSocket(const Info &info) {
  guarded(info.Env(), [&] { activate(fdOf(info), convert::toImage(info[1])); });
}

Napi::Value captureSocket(const Info &info) {
  Sent sent = info[1].ToBoolean() ? Sent::LEFT_OUT : Sent::COPIED;
  return guarded(info.Env(), [&] { return convert::fromImage(info.Env(), capture(fdOf(info), sent)); });
}

void resumeSocket(const Info &info) {
  guarded(info.Env(), [&] { resume(fdOf(info)); });
}

void closeSocketInRepair(const Info &info) {
  guarded(info.Env(), [&] { closeInRepair(fdOf(info)); });
}

Napi::Value rebuildBatch(const Info &info) {
  auto items = std::make_shared<std::vector<Rebuild>>();
  auto from = info[0].As<Napi::Array>();
  items->reserve(from.Length());
  for (uint32_t i = 0; i < from.Length(); i++) {
    auto item = from.Get(i).As<Napi::Object>();
    guarded(info.Env(),
            [&] { items->push_back({item.Get("fd").ToNumber().Int32Value(), convert::toImage(item.Get("image"))}); });
  }
  return promise<std::vector<Failure>>(
      info.Env(), Instance::of(info.Env()).repairs, [items] { return rebuildAll(*items); },
      [](Napi::Env env, const std::vector<Failure> &results) {
        auto made = Napi::Array::New(env, results.size());
        for (size_t i = 0; i < results.size(); i++) {
          if (results[i].number == 0) {
            made[i] = env.Null();
            continue;
          }
          auto error = Napi::Object::New(env);
          error["code"] = Napi::String::New(env, results[i].code());
          error["step"] = Napi::String::New(env, results[i].step);
          made[i] = error;
        }
        return made;
      });
}

Napi::Value sendSegments(const Info &info) {
  return guarded(info.Env(), [&] {
    std::vector<Segment> segments;
    auto from = info[0].As<Napi::Array>();
    segments.reserve(from.Length());
    for (uint32_t i = 0; i < from.Length(); i++)
      segments.push_back(convert::toSegment(from.Get(i)));
    return Napi::Number::New(info.Env(), static_cast<double>(Instance::of(info.Env()).segments.send(segments)));
  });
}

Napi::Value destroyAllOrphans(const Info &info) {
  return guarded(info.Env(), [&] {
    std::vector<Address> local;
    auto from = info[0].As<Napi::Array>();
    for (uint32_t i = 0; i < from.Length(); i++)
      local.push_back(convert::toAddress(from.Get(i)));
    return Napi::Number::New(info.Env(), static_cast<double>(destroyOrphans(local)));
  });
}

Napi::Value destroyOneOrphan(const Info &info) {
  return guarded(info.Env(),
                 [&] { return Napi::Boolean::New(info.Env(), destroyOrphan(convert::toEndpoints(info[0]))); });
}

// ---- files, processes, descriptors ----

Napi::Value hashFile(const Info &info) {
  Worker &worker = Instance::of(info.Env()).hashing;
  std::string path = info[0].ToString();
  return promise<Digest>(
      info.Env(), worker, [path, &worker] { return digestOf(path, [&worker] { return worker.isStopping(); }); },
      [](Napi::Env env, const Digest &digest) { return convert::fromDigest(env, digest); });
}

/** @param open openProcess or openThread, of the first argument; the second is called back. */
Napi::Value watchEnd(const Info &info, Descriptor (*open)(int)) {
  Instance &instance = Instance::of(info.Env());
  auto process =
      std::make_shared<Descriptor>(guarded(info.Env(), [&] { return open(info[0].ToNumber().Int32Value()); }));
  auto onExit = keep(info[1]);
  auto number = std::make_shared<uint64_t>();
  Watcher *watcher = guarded(info.Env(), [&] {
    return Watcher::open(instance.loop, process->get(), [&instance, number, onExit](int) {
      instance.shut(*number);
      instance.enter([&] { instance.call(Napi::Object::New(instance.env), onExit->Value(), {}); });
    });
  });
  *number = instance.keepOpen([watcher, process] {
    watcher->close();
    process->reset();
  });
  watcher->start();
  return closable(instance, *number);
}

Napi::Value watchProcess(const Info &info) {
  return watchEnd(info, openProcess);
}

Napi::Value watchThread(const Info &info) {
  return watchEnd(info, openThread);
}

Napi::Value startCanaryThread(const Info &info) {
  return guarded(info.Env(), [&] { return Napi::Number::New(info.Env(), startCanary()); });
}

Napi::Value passDescriptors(const Info &info) {
  std::string path = info[0].ToString();
  std::vector<int> fds;
  auto from = info[1].As<Napi::Array>();
  for (uint32_t i = 0; i < from.Length(); i++)
    fds.push_back(from.Get(i).ToNumber());
  std::string message = convert::toBytes(info[2]);
  return promise<bool>(
      info.Env(), Instance::of(info.Env()).passing,
      [path, fds, message] {
        sendDescriptors(path, fds, message);
        return true;
      },
      [](Napi::Env env, bool) { return env.Undefined(); });
}

Napi::Value receiveDescriptors(const Info &info) {
  Instance &instance = Instance::of(info.Env());
  auto onMessage = keep(info[1]);
  auto receive = [&instance, onMessage](std::vector<int> fds, std::string message) {
    instance.enter([&] {
      Napi::Env env = instance.env;
      auto made = Napi::Array::New(env, fds.size());
      for (size_t i = 0; i < fds.size(); i++)
        made[i] = Napi::Number::New(env, fds[i]);
      instance.call(Napi::Object::New(env), onMessage->Value(), {made, convert::fromBytes(env, message)});
    });
  };
  auto receiver = guarded(
      info.Env(), [&] { return std::make_shared<DescriptorReceiver>(instance.loop, info[0].ToString(), receive); });
  return closable(instance, instance.keepOpen([receiver] { receiver->close(); }));
}

void closeFd(const Info &info) {
  guarded(info.Env(), [&] { check(::close(fdOf(info)), "close", "close", "fd " + std::to_string(fdOf(info))); });
}

Napi::Value openFileAt(const Info &info) {
  return guarded(info.Env(), [&] { return Napi::Number::New(info.Env(), openFile(info[0].ToString())); });
}

Napi::Value memoryFileOf(const Info &info) {
  return guarded(info.Env(), [&] {
    auto bytes = info[0].As<Napi::Buffer<char>>();
    return Napi::Number::New(info.Env(), memoryFile(bytes.Data(), bytes.Length(), info[1].ToNumber().Int64Value()));
  });
}

Napi::Value setRealtimePriority(const Info &info) {
  return Napi::Boolean::New(info.Env(), setRealtime(info[0].ToNumber().Int32Value()));
}

void joinCgroupAt(const Info &info) {
  guarded(info.Env(), [&] { joinCgroup(info[0].ToString()); });
}

Napi::Value monotonicNs(const Info &info) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return Napi::BigInt::New(info.Env(), int64_t{now.tv_sec * 1'000'000'000LL + now.tv_nsec});
}

/** (TcpError): the class whose instances are thrown. Returns Native. */
Napi::Value open(const Info &info) {
  Napi::Env env = info.Env();
  Instance::of(env).errorClass = Napi::Persistent(info[0].As<Napi::Function>());
  auto native = Napi::Object::New(env);
  auto member = [&](const char *name, auto function) { native[name] = Napi::Function::New(env, function, name); };
  member("listen", listenAt);
  member("listenOn", listenOn);
  member("dial", dial);
  member("connection", connection);
  member("spool", spool);
  member("info", infoOfFd);
  member("endpoints", endpointsOfFd);
  member("prepare", prepareSocket);
  member("rebuild", rebuildSocket);
  member("activate", activateSocket);
  member("capture", captureSocket);
  member("resume", resumeSocket);
  member("closeInRepair", closeSocketInRepair);
  member("rebuildBatch", rebuildBatch);
  member("sendSegments", sendSegments);
  member("destroyOrphans", destroyAllOrphans);
  member("destroyOrphan", destroyOneOrphan);
  member("hashFile", hashFile);
  member("watchProcess", watchProcess);
  member("startCanary", startCanaryThread);
  member("watchThread", watchThread);
  member("sendDescriptors", passDescriptors);
  member("receiveDescriptors", receiveDescriptors);
  member("closeFd", closeFd);
  member("openFile", openFileAt);
  member("memoryFile", memoryFileOf);
  member("setRealtime", setRealtimePriority);
  member("joinCgroup", joinCgroupAt);
  member("monotonicNs", monotonicNs);
  return native;
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  auto instance = new Instance(env);
  env.SetInstanceData(instance);
  instance->connectionClass = Napi::Persistent(Connection::define(env));
  instance->spoolClass = Napi::Persistent(SpoolHandle::define(env));
  exports["open"] = Napi::Function::New(env, open, "open");
  return exports;
}

} // namespace

NODE_API_MODULE(tcp, initialise)
