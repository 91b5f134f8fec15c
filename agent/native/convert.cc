#include "convert.h"

#include "spool_handle.h"

namespace convert {

namespace {

Napi::Object object(Napi::Value value) {
  if (!value.IsObject()) throw Napi::TypeError::New(value.Env(), "an object is expected");
  return value.As<Napi::Object>();
}

int64_t integer(const Napi::Object &from, const char *name) {
  Napi::Value value = from.Get(name);
  if (!value.IsNumber()) throw Napi::TypeError::New(from.Env(), std::string(name) + ": a number is expected");
  return value.As<Napi::Number>().Int64Value();
}

bool flag(const Napi::Object &from, const char *name) {
  return from.Get(name).ToBoolean();
}

std::string text(const Napi::Object &from, const char *name) {
  Napi::Value value = from.Get(name);
  if (!value.IsString()) throw Napi::TypeError::New(from.Env(), std::string(name) + ": a string is expected");
  return value.As<Napi::String>();
}

Napi::Array array(Napi::Value value) {
  if (!value.IsArray()) throw Napi::TypeError::New(value.Env(), "an array is expected");
  return value.As<Napi::Array>();
}

Napi::Object fromAddress(Napi::Env env, const Address &address) {
  auto made = Napi::Object::New(env);
  made["address"] = Napi::String::New(env, address.host());
  made["port"] = Napi::Number::New(env, address.port());
  return made;
}

template <typename Value> Napi::Number number(Napi::Env env, Value value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

Piece toPiece(Napi::Value value) {
  Napi::Object from = object(value);
  if (flag(from, "fin")) return {.kind = Piece::FIN, .length = 1};
  if (from.Has("literal")) {
    Piece piece{.kind = Piece::LITERAL, .literal = toBytes(from.Get("literal"))};
    piece.length = piece.literal.size();
    return piece;
  }
  Piece piece{.kind = Piece::FILE};
  piece.fd = integer(from, "fd");
  piece.offset = integer(from, "offset");
  piece.length = integer(from, "length");
  if (piece.offset < 0 || piece.length < 0) throw Failure(EINVAL, "append", "sendfile");
  Napi::Value spool = from.Get("spool");
  if (!spool.IsUndefined()) piece.spool = SpoolHandle::of(spool);
  return piece;
}

} // namespace

std::string toBytes(Napi::Value value) {
  if (!value.IsTypedArray()) throw Napi::TypeError::New(value.Env(), "a Buffer is expected");
  auto bytes = value.As<Napi::Uint8Array>();
  return std::string(reinterpret_cast<const char *>(bytes.Data()), bytes.ByteLength());
}

Napi::Buffer<char> fromBytes(Napi::Env env, const std::string &bytes) {
  return Napi::Buffer<char>::Copy(env, bytes.data(), bytes.size());
}

Address toAddress(Napi::Value value) {
  Napi::Object from = object(value);
  return Address(text(from, "address"), integer(from, "port"));
}

Endpoints toEndpoints(Napi::Value value) {
  Napi::Object from = object(value);
  return {toAddress(from.Get("local")), toAddress(from.Get("remote"))};
}

std::vector<Piece> toPieces(Napi::Value value) {
  std::vector<Piece> pieces;
  Napi::Array from = array(value);
  pieces.reserve(from.Length());
  for (uint32_t i = 0; i < from.Length(); i++)
    pieces.push_back(toPiece(from.Get(i)));
  return pieces;
}

Segment toSegment(Napi::Value value) {
  Napi::Object from = object(value);
  Segment segment{};
  segment.ends = toEndpoints(from);
  segment.seq = integer(from, "seq");
  segment.ack = integer(from, "ack");
  segment.flags = integer(from, "flags");
  segment.window = integer(from, "window");
  Napi::Value timestamps = from.Get("timestamps");
  if (timestamps.IsObject()) {
    segment.hasTimestamps = true;
    segment.tsval = integer(timestamps.As<Napi::Object>(), "value");
    segment.tsecr = integer(timestamps.As<Napi::Object>(), "echo");
  }
  Napi::Value payload = from.Get("payload");
  if (!payload.IsUndefined()) segment.payload = toBytes(payload);
  return segment;
}

Image toImage(Napi::Value value) {
  Napi::Object from = object(value);
  Image image{};
  image.ends = toEndpoints(from);
  image.state = integer(from, "state");
  image.sendUna = integer(from, "sendUna");
  image.receiveNext = integer(from, "receiveNext");
  image.mss = integer(from, "mss");
  image.windowScaling = flag(from, "windowScaling");
  image.sendScale = integer(from, "sendScale");
  image.receiveScale = integer(from, "receiveScale");
  image.sack = flag(from, "sack");
  image.timestamps = flag(from, "timestamps");
  image.timestampClock = integer(from, "timestampClock");
  image.timestampUsec = flag(from, "timestampUsec");
  Napi::Object window = object(from.Get("window"));
  image.window.sndWl1 = integer(window, "sndWl1");
  image.window.sndWnd = integer(window, "sndWnd");
  image.window.maxWindow = integer(window, "maxWindow");
  image.window.rcvWnd = integer(window, "rcvWnd");
  image.window.rcvWup = integer(window, "rcvWup");
  image.receiveQueue = toBytes(from.Get("receiveQueue"));
  image.sendQueue = toBytes(from.Get("sendQueue"));
  image.unsentQueue = toBytes(from.Get("unsentQueue"));
  Napi::Object options = object(from.Get("options"));
  image.options.nodelay = flag(options, "nodelay");
  image.options.keepalive = flag(options, "keepalive");
  image.options.keepIdleS = integer(options, "keepIdleS");
  image.options.keepIntervalS = integer(options, "keepIntervalS");
  image.options.keepCount = integer(options, "keepCount");
  image.options.congestion = text(options, "congestion");
  if (options.Get("receiveBuffer").IsNumber()) image.options.receiveBuffer = integer(options, "receiveBuffer");
  return image;
}

Napi::Object fromEndpoints(Napi::Env env, const Endpoints &ends) {
  auto made = Napi::Object::New(env);
  made["local"] = fromAddress(env, ends.local);
  made["remote"] = fromAddress(env, ends.remote);
  return made;
}

Napi::Object fromImage(Napi::Env env, const Image &image) {
  Napi::Object made = fromEndpoints(env, image.ends);
  made["state"] = number(env, image.state);
  made["sendUna"] = number(env, image.sendUna);
  made["receiveNext"] = number(env, image.receiveNext);
  made["mss"] = number(env, image.mss);
  made["windowScaling"] = Napi::Boolean::New(env, image.windowScaling);
  made["sendScale"] = number(env, image.sendScale);
  made["receiveScale"] = number(env, image.receiveScale);
  made["sack"] = Napi::Boolean::New(env, image.sack);
  made["timestamps"] = Napi::Boolean::New(env, image.timestamps);
  made["timestampClock"] = number(env, image.timestampClock);
  made["timestampUsec"] = Napi::Boolean::New(env, image.timestampUsec);
  auto window = Napi::Object::New(env);
  window["sndWl1"] = number(env, image.window.sndWl1);
  window["sndWnd"] = number(env, image.window.sndWnd);
  window["maxWindow"] = number(env, image.window.maxWindow);
  window["rcvWnd"] = number(env, image.window.rcvWnd);
  window["rcvWup"] = number(env, image.window.rcvWup);
  made["window"] = window;
  made["receiveQueue"] = fromBytes(env, image.receiveQueue);
  made["sendQueue"] = fromBytes(env, image.sendQueue);
  made["unsentQueue"] = fromBytes(env, image.unsentQueue);
  auto options = Napi::Object::New(env);
  options["nodelay"] = Napi::Boolean::New(env, image.options.nodelay);
  options["keepalive"] = Napi::Boolean::New(env, image.options.keepalive);
  options["keepIdleS"] = number(env, image.options.keepIdleS);
  options["keepIntervalS"] = number(env, image.options.keepIntervalS);
  options["keepCount"] = number(env, image.options.keepCount);
  options["congestion"] = Napi::String::New(env, image.options.congestion);
  options["receiveBuffer"] = number(env, image.options.receiveBuffer);
  made["options"] = options;
  return made;
}

Napi::Object fromInfo(Napi::Env env, const Info &info) {
  auto made = Napi::Object::New(env);
  made["state"] = number(env, info.state);
  made["options"] = number(env, info.options);
  made["sendScale"] = number(env, info.sendScale);
  made["receiveScale"] = number(env, info.receiveScale);
  made["sendMss"] = number(env, info.sendMss);
  made["unacked"] = number(env, info.unacked);
  made["rttUs"] = number(env, info.rttUs);
  made["retransmits"] = number(env, info.retransmits);
  made["totalRetransmits"] = number(env, info.totalRetransmits);
  made["bytesAcked"] = number(env, info.bytesAcked);
  made["bytesReceived"] = number(env, info.bytesReceived);
  made["notSentBytes"] = number(env, info.notSentBytes);
  made["sendQueueBytes"] = number(env, info.sendQueueBytes);
  return made;
}

Napi::Object fromDigest(Napi::Env env, const Digest &digest) {
  auto made = Napi::Object::New(env);
  made["sha256"] = Napi::String::New(env, digest.sha256);
  made["device"] = Napi::BigInt::New(env, digest.device);
  made["inode"] = Napi::BigInt::New(env, digest.inode);
  made["size"] = number(env, digest.size);
  made["mtimeNs"] = Napi::BigInt::New(env, digest.mtimeNs);
  made["ctimeNs"] = Napi::BigInt::New(env, digest.ctimeNs);
  return made;
}

} // namespace convert
