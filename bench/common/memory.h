// SPDX-License-Identifier: Apache-2.0
// Resident memory of this process and what the machine has left, in bytes.
#pragma once

#include <cstdint>

namespace moesmith::bench {

std::int64_t resident_bytes();
// The most that was resident since the last reset_peak(), or since the start where the kernel does
// not let a process reset it.
std::int64_t peak_resident_bytes();
void reset_peak();
// Gives freed memory back to the system, so that the next case starts without it.
void release_memory();
std::int64_t available_bytes();
// Size of the largest cache, 32 MiB where the system does not tell.
std::int64_t last_level_cache_bytes();

}  // namespace moesmith::bench
