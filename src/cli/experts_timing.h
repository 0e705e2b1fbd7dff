// SPDX-License-Identifier: Apache-2.0
// Times one experts layer against dense products of the same FLOPs, by turns.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cli/layer_case.h"
#include "core/thread_pool.h"

namespace moesmith::cli {

// On the CPU. At least three turns and `seconds`. Weights lie there as often as it takes to exceed
// twice the last cache, at most 16 times, and take turns, as do the routings.
LayerTiming time_layer(const LayerCase& c,
                       const experts::ExpertsPlan& plan,
                       double seconds,
                       ThreadPool& pool);

// What a plan did on a GPU, or why it was not timed.
struct CudaTiming {
  LayerTiming timing;
  std::string why_not;
};

struct CudaTimings {
  std::vector<CudaTiming> of_plans;  // in the order of the plans
  std::string why_no_dense;          // "", or why share_of_dense and dense_ms are not there
};

// On a GPU: a turn is the dense products (cuBLAS) and then every plan, timed by events. At least
// three turns and `seconds` for each plan. What a call reads exceeds twice the L2 cache, or takes
// turns with other inputs until all of them do, at most 64. A build without CUDA throws
// Error(kUnsupported).
CudaTimings time_layer_on_cuda(const LayerCase& c,
                               std::span<const experts::ExpertsPlan> plans,
                               double seconds);

}  // namespace moesmith::cli
