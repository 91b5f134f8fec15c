#pragma once

#include <napi.h>

#include "address.h"
#include "digest.h"
#include "info.h"
#include "pump.h"
#include "repair.h"
#include "segment.h"

/** JavaScript's shapes (api.ts) from and to ours. @throws Napi::Error for what is missing or of the wrong type, Failure
 * for bad addresses */
namespace convert {

Address toAddress(Napi::Value value);
Endpoints toEndpoints(Napi::Value value);
Image toImage(Napi::Value value);
Segment toSegment(Napi::Value value);
std::vector<Piece> toPieces(Napi::Value value);
std::string toBytes(Napi::Value value);

Napi::Object fromEndpoints(Napi::Env env, const Endpoints &ends);
Napi::Object fromImage(Napi::Env env, const Image &image);
Napi::Object fromInfo(Napi::Env env, const Info &info);
Napi::Object fromDigest(Napi::Env env, const Digest &digest);
Napi::Buffer<char> fromBytes(Napi::Env env, const std::string &bytes);

} // namespace convert
