// SPDX-License-Identifier: Apache-2.0
#include "object.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "error.h"
#include "libbpf_log.h"
#include "pin.h"
#include "rodata.h"

namespace baton {
namespace {

struct Close {
  void operator()(bpf_object *object) const { bpf_object__close(object); }
};
using Handle = std::unique_ptr<bpf_object, Close>;

Handle open_file(const std::string &path, const LibbpfLog &log) {
  if (access(path.c_str(), R_OK)) fail(errno, "open", path);
  bpf_object *object = bpf_object__open_file(path.c_str(), nullptr);
  if (!object) fail(errno, "bpf_object__open_file", path, log.tail());
  return Handle(object);
}

bpf_map *find_map(bpf_object *object, const std::string &path, const std::string &name) {
  bpf_map *map = bpf_object__find_map_by_name(object, name.c_str());
  if (!map) refuse("ENOENT", "bpf_object__find_map_by_name", name, "no such map in " + path);
  return map;
}

void check_fits(int fd, const bpf_map *wanted, const std::string &path) {
  struct bpf_map_info there = {};
  uint32_t length = sizeof there;
  const int err = bpf_obj_get_info_by_fd(fd, &there, &length);
  if (err) fail(err, "BPF_OBJ_GET_INFO_BY_FD", path);
  std::string why;
  const auto compare = [&why](const char *what, uint32_t is, uint32_t should) {
    if (is != should) why += std::string(what) + " is " + std::to_string(is) + ", not " + std::to_string(should) + "; ";
  };
  compare("type", there.type, bpf_map__type(wanted));
  compare("key_size", there.key_size, bpf_map__key_size(wanted));
  compare("value_size", there.value_size, bpf_map__value_size(wanted));
  compare("max_entries", there.max_entries, bpf_map__max_entries(wanted));
  compare("map_flags", there.map_flags, bpf_map__map_flags(wanted));
  if (!why.empty()) refuse("EEXIST", "bpf_map__reuse_fd", path, "the map pinned there does not fit: " + why);
}

/** @returns whether a map pinned at `path` was taken over */
bool reuse(bpf_map *map, const std::string &path) {
  if (!pinned(path)) return false;
  Fd there = open_pinned(path, PinKind::kMap);
  check_fits(there.get(), map, path);
  const int err = bpf_map__reuse_fd(map, there.get());
  if (err) fail(err, "bpf_map__reuse_fd", path);
  return true;
}

Fd duplicate(int fd, const std::string &name) {
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) fail(errno, "fcntl", name);
  return Fd(copy);
}

/** All or none: a half pinned set would be adopted next time as if it were whole. */
void pin_all(const std::vector<std::pair<bpf_map *, std::string>> &maps) {
  std::vector<std::string> done;
  try {
    for (const auto &[map, path] : maps) {
      pin(bpf_map__fd(map), path);
      done.push_back(path);
    }
  } catch (const Error &) {
    for (const auto &path : done)
      unlink(path.c_str());
    throw;
  }
}

} // namespace

std::shared_ptr<Object> load(const std::string &path, const LoadOptions &options) {
  LibbpfLog log;
  Handle object = open_file(path, log);

  for (const auto &name : options.skip) {
    bpf_program *program = bpf_object__find_program_by_name(object.get(), name.c_str());
    if (!program) refuse("ENOENT", "bpf_object__find_program_by_name", name, "no such program in " + path);
    bpf_program__set_autoload(program, false);
  }
  for (const auto &[name, count] : options.max_entries) {
    const int err = bpf_map__set_max_entries(find_map(object.get(), path, name), count);
    if (err) fail(err, "bpf_map__set_max_entries", name, log.tail());
  }
  set_rodata(object.get(), path, options.rodata);

  if (!options.pin_maps.empty() && options.pin_dir.empty()) refuse("EINVAL", "load", path, "pinMaps needs pinDir");
  std::vector<std::pair<bpf_map *, std::string>> to_pin;
  for (const auto &name : options.pin_maps) {
    bpf_map *map = find_map(object.get(), path, name);
    const std::string pin_path = options.pin_dir + "/" + name;
    if (!reuse(map, pin_path)) to_pin.emplace_back(map, pin_path);
  }

  const int err = bpf_object__load(object.get());
  if (err) fail(err, "bpf_object__load", path, log.tail());
  pin_all(to_pin);

  auto out = std::make_shared<Object>();
  out->path = path;
  bpf_map *map;
  bpf_object__for_each_map(map, object.get()) {
    if (bpf_map__fd(map) < 0) continue;
    out->maps.push_back(std::make_shared<Map>(duplicate(bpf_map__fd(map), bpf_map__name(map)), bpf_map__name(map)));
  }
  bpf_program *program;
  bpf_object__for_each_program(program, object.get()) {
    if (bpf_program__fd(program) < 0) continue;
    const char *name = bpf_program__name(program);
    out->programs.push_back(std::make_shared<Program>(duplicate(bpf_program__fd(program), name), name));
  }
  return out;
}

} // namespace baton
