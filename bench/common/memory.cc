// SPDX-License-Identifier: Apache-2.0
#include "common/memory.h"

#include <malloc.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace moesmith::bench {
namespace {

// "Name:   123 kB" of a file in /proc, in bytes; 0 when it is not there.
std::int64_t kilobytes_of(const char* path, const std::string& name) {
  std::ifstream file(path);
  std::string word;
  std::int64_t value = 0;
  while (file >> word) {
    if (word == name && file >> value) return value * 1024;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

}  // namespace

std::int64_t resident_bytes() { return kilobytes_of("/proc/self/status", "VmRSS:"); }

std::int64_t peak_resident_bytes() { return kilobytes_of("/proc/self/status", "VmHWM:"); }

void reset_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

void release_memory() {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

std::int64_t available_bytes() { return kilobytes_of("/proc/meminfo", "MemAvailable:"); }

std::int64_t last_level_cache_bytes() {
  std::int64_t largest = 0;
  for (int index = 0; index < 8; ++index) {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) +
                       "/size");
    std::int64_t size = 0;
    char unit = 'K';
    if (file >> size >> unit) largest = std::max(largest, size << (unit == 'M' ? 20 : 10));
  }
  return largest > 0 ? largest : std::int64_t{32} << 20;
}

}  // namespace moesmith::bench
