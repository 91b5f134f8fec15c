#include "digest.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <memory>
#include <vector>

#include "file.h"

namespace {

constexpr size_t BLOCK_BYTES = 1 << 20;

int64_t nanoseconds(const timespec &time) {
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

/** All that tells one version of a file from the next. */
Digest identityOf(int fd, const std::string &path) {
  struct stat status;
  check(fstat(fd, &status), "digest", "fstat", path);
  return {"",
          status.st_dev,
          status.st_ino,
          static_cast<uint64_t>(status.st_size),
          nanoseconds(status.st_mtim),
          nanoseconds(status.st_ctim)};
}

bool isSame(const Digest &a, const Digest &b) {
  return a.device == b.device && a.inode == b.inode && a.size == b.size && a.mtimeNs == b.mtimeNs &&
         a.ctimeNs == b.ctimeNs;
}

std::string hex(const uint8_t *bytes, size_t length) {
  static const char digits[] = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < length; i++)
    text += {digits[bytes[i] >> 4], digits[bytes[i] & 15]};
  return text;
}

} // namespace

Digest digestOf(const std::string &path, const std::function<bool()> &isStopping) {
  Descriptor file(openFile(path));
  Digest before = identityOf(file.get(), path);
  posix_fadvise(file.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  if (!context || !EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr)) {
    throw Failure(ENOMEM, "digest", "EVP_DigestInit_ex", path);
  }
  std::vector<uint8_t> block(BLOCK_BYTES);
  uint64_t total = 0;
  // Bounded by the size it had: one that grows meanwhile has changed anyway.
  while (total <= before.size) {
    if (isStopping()) throw Failure(ECANCELED, "digest", "read", path);
    ssize_t length = read(file.get(), block.data(), block.size());
    if (length < 0 && errno == EINTR) continue;
    check(length, "digest", "read", path);
    if (length == 0) break;
    total += length;
    EVP_DigestUpdate(context.get(), block.data(), length);
  }
  uint8_t value[EVP_MAX_MD_SIZE];
  unsigned valueLength = 0;
  EVP_DigestFinal_ex(context.get(), value, &valueLength);
  if (total != before.size || !isSame(before, identityOf(file.get(), path))) {
    throw Failure(ESTALE, "digest", "fstat", path + " changed while it was read");
  }
  before.sha256 = hex(value, valueLength);
  return before;
}
