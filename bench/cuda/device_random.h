// SPDX-License-Identifier: Apache-2.0
// Random bf16 data in device memory.
#pragma once

#include <cstdint>

namespace moesmith::bench {

// Uniform in [-scale, scale], a function of (seed, position). `data` is bf16 [count] on the device.
void fill_random_bf16(
    void* data, std::int64_t count, float scale, std::uint32_t seed, void* stream);

}  // namespace moesmith::bench
