#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "descriptor.h"

struct Stream;

/** Between two descriptors of which neither is a pipe: splice(2) needs one. Non-blocking. */
struct Pipe {
  Descriptor read, write;

  /** @param bytes as far as the limit for pipes allows it @throws Failure */
  explicit Pipe(int bytes);
};

/**
 * A part of an object that comes from another server, on its way to a client: from that server's socket through a pipe
 * to the client's. Its pages are neither copied nor kept, and it is fetched no further than the client takes it.
 * Positions are the object's:
 *
 *        sent         │ in the pipe │ not here yet
 *      ───────────────┼─────────────┼──────────────┤ end
 *                              taken in
 *
 * What came with a head, or is to be sent once more by a rebuilt socket, is put instead, and lies in a file without a
 * name: between what is in the pipe and what the socket will bring. Of what went through the pipe a byte is remembered
 * every now and then, and the last one: whoever names a position to a survivor has to name the byte before it.
 *
 * All of it may be called from any thread.
 */
class Spool {
 public:
  /** @throws Failure */
  Spool(int64_t start, int64_t end);

  /** For reading what was put, by position. */
  int file() const { return file_.get(); }
  /** Behind the last byte that was taken in. */
  int64_t filled();

  /** Bytes that have come already, in front of what the socket will bring. @throws Failure */
  void put(const std::string &bytes);
  /** From here on the bytes from `filled` on come out of this socket, and nothing else but them. */
  void attach(Descriptor socket);

  /** Everything below is not needed any more, but for the byte in front of it, or the one that is remembered before. */
  void release(int64_t below);
  /** The last position below `below` whose byte is known; -1 where there is none. */
  int64_t known(int64_t below);
  /** The byte at a position that is known. @throws Failure */
  uint8_t byteAt(int64_t position);

  /**
   * Sends bytes from `position` on, at most `length`, fetching where there are none. `position` is where the last call
   * stopped, or anywhere in what was put last. Never waits.
   *
   * @param missing set where it is the spool that has nothing: ENODATA where the socket has none now, any other errno
   * where nothing comes of it any more (EPIPE: it ended early)
   * @returns what was sent; -1 with errno, ENODATA where `missing` is set
   */
  ssize_t send(int to, int64_t position, int64_t length, int &missing);

  /** Who is to be told when the socket has something; -1 where there is none. */
  int socket();

  /** The stream that waits for another socket, if one does. Set by the pump. */
  void park(const std::shared_ptr<Stream> &stream);
  std::shared_ptr<Stream> unpark();

 private:
  bool isPut(int64_t position) const { return position >= putFrom_ && position < putTo_; }
  int fetch(int64_t most);
  ssize_t forward(int to, int64_t position, int64_t length);
  void remember(int64_t position);

  std::mutex lock_;
  const int64_t end_;
  Descriptor file_, socket_;
  std::unique_ptr<Pipe> pipe_;
  int64_t filled_;
  int64_t putFrom_, putTo_, released_; // what lies in the file, as far as it was put last
  int64_t piped_ = 0, pipedTo_;        // bytes in the pipe, and the position behind them
  std::map<int64_t, uint8_t> remembered_;
  std::weak_ptr<Stream> parked_;
};
