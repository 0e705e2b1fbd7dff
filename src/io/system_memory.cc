// SPDX-License-Identifier: Apache-2.0
#include "io/system_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "io/atomic_write.h"
#include "moesmith/error.h"

namespace moesmith::io {
namespace {

std::optional<std::int64_t> parse_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

std::optional<std::string> try_read(const std::string& path) {
  try {
    return read_file(path);
  } catch (const Error&) {
    return std::nullopt;
  }
}

template <class Visit>
void for_each_line(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    visit(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// The number behind `key` in lines such as "MemTotal:  123 kB" or "inactive_file 123".
std::optional<std::int64_t> field(std::string_view text, std::string_view key) {
  std::optional<std::int64_t> found;
  for_each_line(text, [&](std::string_view line) {
    if (found || !line.starts_with(key)) return;
    line.remove_prefix(key.size());
    if (line.empty() || (line[0] != ' ' && line[0] != '\t')) return;
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    found = parse_number(line);
  });
  return found;
}

struct GroupFiles {
  const char* limit;
  const char* used;
  const char* droppable;  // key in memory.stat
};
constexpr GroupFiles kVersion2 = {"/memory.max", "/memory.current", "inactive_file"};
constexpr GroupFiles kVersion1 = {"/memory.limit_in_bytes", "/memory.usage_in_bytes",
                                  "total_inactive_file"};

// Takes the limit of one group over when it leaves less room than the one found before.
void consider(const std::string& folder, const GroupFiles& files, SystemMemory& memory) {
  const auto limit_text = try_read(folder + files.limit);
  const auto limit = limit_text ? parse_number(*limit_text) : std::nullopt;  // "max": none
  // Version 1 says "no limit" by a number near 2^63.
  if (!limit || *limit >= memory.total) return;
  std::int64_t used = 0;
  if (const auto text = try_read(folder + files.used)) used = parse_number(*text).value_or(0);
  if (const auto text = try_read(folder + "/memory.stat")) {
    used -= std::min(used, field(*text, files.droppable).value_or(0));
  }
  if (!memory.cgroup_limit || *limit - used < *memory.cgroup_limit - *memory.cgroup_used) {
    memory.cgroup_limit = *limit;
    memory.cgroup_used = used;
  }
}

// The group and its parents up to the mount. Inside a container the path of /proc/self/cgroup may
// not exist under the mount; the mount itself is then the container's own group.
void consider_path(const std::string& mount,
                   std::string group,
                   const GroupFiles& files,
                   SystemMemory& memory) {
  while (!group.empty() && group != "/") {
    consider(mount + group, files, memory);
    const std::size_t slash = group.rfind('/');
    group.erase(slash == group.npos ? 0 : slash);
  }
  consider(mount, files, memory);
}

// Lines of /proc/self/cgroup: "0::/path" (version 2) or "7:memory:/path" (version 1).
void read_groups(const std::string& root, SystemMemory& memory) {
  const auto text = try_read(root + "/proc/self/cgroup");
  if (!text) return;
  for_each_line(*text, [&](std::string_view line) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == line.npos ? first : line.find(':', first + 1);
    if (second == line.npos) return;
    const std::string controllers =
        "," + std::string(line.substr(first + 1, second - first - 1)) + ",";
    const std::string group(line.substr(second + 1));
    if (controllers == ",,") {
      consider_path(root + "/sys/fs/cgroup", group, kVersion2, memory);
      consider_path(root + "/sys/fs/cgroup/unified", group, kVersion2, memory);
    } else if (controllers.find(",memory,") != controllers.npos) {
      consider_path(root + "/sys/fs/cgroup/memory", group, kVersion1, memory);
    }
  });
}

}  // namespace

std::int64_t SystemMemory::usable() const noexcept {
  if (!cgroup_limit) return available;
  const std::int64_t left = *cgroup_limit - cgroup_used.value_or(0);
  return std::max<std::int64_t>(0, std::min(available, left));
}

SystemMemory system_memory(const std::string& root) {
  const std::string text = [&] {
    try {
      return read_file(root + "/proc/meminfo");
    } catch (const Error& error) {
      throw Error(ErrorCode::kIo, error.what());
    }
  }();
  const auto total = field(text, "MemTotal:");
  if (!total) throw Error(ErrorCode::kIo, root + "/proc/meminfo: has no line MemTotal");
  SystemMemory memory;
  memory.total = *total * 1024;
  // MemAvailable is missing before Linux 3.14 and in some sandboxes.
  memory.available =
      field(text, "MemAvailable:").value_or(field(text, "MemFree:").value_or(*total)) * 1024;
  read_groups(root, memory);
  return memory;
}

std::int64_t peak_rss() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

std::int64_t current_rss() {
  const auto text = try_read("/proc/self/statm");
  if (!text) return 0;
  const std::size_t space = text->find(' ');
  if (space == text->npos) return 0;
  return parse_number(std::string_view(*text).substr(space + 1)).value_or(0) *
         ::sysconf(_SC_PAGESIZE);
}

}  // namespace moesmith::io
