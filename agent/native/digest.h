#pragma once

#include <cstdint>
#include <functional>
#include <string>

/** A file's content and the identity that it had from the first byte to the last. */
struct Digest {
  std::string sha256; // hex
  uint64_t device, inode, size;
  int64_t mtimeNs, ctimeNs;
};

/**
 * SHA-256 of a regular file. `isStopping` is asked between blocks of 1 MiB.
 * @throws Failure: I/O errors; ESTALE if the file changed meanwhile; EINVAL if it is no regular file; ECANCELED
 */
Digest digestOf(const std::string &path, const std::function<bool()> &isStopping);
