// SPDX-License-Identifier: Apache-2.0
// Writing finished sums into what the caller asked for: overwritten or added to, in the dtype asked
// for.
#pragma once

#include <cstdint>

#include "experts/routing.h"
#include "moesmith/experts.h"

namespace moesmith::experts {

// target[offset + i * stride] = or += values[i], i < n.
void store_gradient(const GradSpec& spec,
                    void* target,
                    std::int64_t offset,
                    const float* values,
                    std::int64_t n,
                    std::int64_t stride = 1);
void store_gradient(const GradSpec& spec,
                    void* target,
                    std::int64_t offset,
                    const double* values,
                    std::int64_t n,
                    std::int64_t stride = 1);

// Whether a gradient of so many bytes has left the caches before anybody reads it.
constexpr bool outgrows_caches(std::int64_t bytes) { return bytes >= std::int64_t{8} << 20; }
// As store_gradient, but what it overwrites is not read into the caches first, where whole lines
// are written; of n values in a row. To be followed by kernels::rows::fence() in the same thread.
void stream_gradient(
    const GradSpec& spec, void* target, std::int64_t offset, const float* values, std::int64_t n);

// The gradient of the routing weights of slots that no expert here owns: exactly 0.
void store_skipped_slots(const ExpertsRequest& request,
                         const BackwardArgs& args,
                         const RoutingIndex& index);

}  // namespace moesmith::experts
