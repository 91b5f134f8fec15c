#pragma once

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "descriptor.h"
#include "loop.h"

/**
 * Open descriptors from one process to another (SCM_RIGHTS, unix(7)) over a SOCK_SEQPACKET socket: a message and its
 * descriptors arrive together or not at all. One message a connection.
 */

/** Blocks up to a second, so not for the loop's thread. The sender's descriptors stay open. @throws Failure */
void sendDescriptors(const std::string &path, const std::vector<int> &fds, const std::string &message);

/** The receiving end, bound to `path`, which it replaces and removes. */
class DescriptorReceiver {
 public:
  using Receive = std::function<void(std::vector<int> fds, std::string message)>;

  DescriptorReceiver(Loop &loop, std::string path, Receive receive);
  ~DescriptorReceiver() { close(); }
  DescriptorReceiver(const DescriptorReceiver &) = delete;
  void close();

 private:
  void accept();
  void read(int fd);
  void drop(int fd);

  Loop &loop_;
  const std::string path_;
  Receive receive_;
  Descriptor socket_;
  Watcher *watcher_ = nullptr;
  std::unordered_map<int, Watcher *> peers_;
};
