// SPDX-License-Identifier: Apache-2.0
// How much memory this process may use, and has used.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace moesmith::io {

struct SystemMemory {
  std::int64_t total = 0;      // bytes of the machine
  std::int64_t available = 0;  // what the kernel could hand out without swapping
  // Control group v1 or v2, the tightest of this process's group and its parents; nothing: no
  // limit. What the group's page cache holds and can be dropped is not counted as used.
  std::optional<std::int64_t> cgroup_limit;
  std::optional<std::int64_t> cgroup_used;

  // The lesser of what machine and group have left: the number to plan with.
  std::int64_t usable() const noexcept;
};

// Throws Error(kIo) when /proc/meminfo cannot be read. `root` stands before /proc and /sys (tests).
SystemMemory system_memory(const std::string& root = "");

// Most resident memory this process ever had, in bytes.
std::int64_t peak_rss();
// Resident memory now, in bytes.
std::int64_t current_rss();

}  // namespace moesmith::io
