#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "descriptor.h"

struct Stream;

/**
 * A part of an object that comes from another server, on its way to a client: from a socket into a file without a name,
 * from which the pump sends. It is fetched no further than the client takes it. Positions are the object's:
 *
 *        given back │ kept      │ not here yet
 *      ─────────────┼───────────┼──────────────┤ end
 *                released     filled
 *
 * Bytes go by splice and never through user space. All of it may be called from any thread.
 */
class Spool {
 public:
  /** @throws Failure */
  Spool(int64_t start, int64_t end);

  /** For reading what is kept, by position. */
  int file() const { return file_.get(); }
  int64_t filled();

  /** Bytes that have come already, in front of what the socket will bring. @throws Failure */
  void put(const std::string &bytes);
  /** From here on the bytes from `filled` on come out of this socket, and nothing else but them. */
  void attach(Descriptor socket);
  /** Everything below is not needed any more. */
  void release(int64_t below);

  /**
   * Bytes that are there at `position`, at most `wanted`, fetching if there are none. Never waits. @returns 0 with
   * errno: ENODATA where the socket has none now, any other where nothing comes of it any more (EPIPE: it ended early)
   */
  int64_t provide(int64_t position, int64_t wanted);

  /** Who is to be told when the socket has something; -1 where there is none. */
  int socket();

  /** The stream that waits for another socket, if one does. Set by the pump. */
  void park(const std::shared_ptr<Stream> &stream);
  std::shared_ptr<Stream> unpark();

 private:
  bool fetch(int64_t most);

  std::mutex lock_;
  const int64_t end_;
  Descriptor file_, socket_;
  int64_t released_, filled_;
  std::weak_ptr<Stream> parked_;
};
