// SPDX-License-Identifier: Apache-2.0
// Which experts the tokens of a benchmark choose: several sets of choices, one per repeat in turn.
#pragma once

#include <cstdint>
#include <vector>

#include "experts/case.h"
#include "moesmith/tensor.h"

namespace moesmith::bench {

// [T,K] int64, distinct experts per token. Each set has the same distribution over relabelled
// experts: a decoder's layer, too, never runs twice in a row, so a repeat must not find its weights
// in a cache because the one before read them. For T = 1 the sets deal the experts out like cards:
// none comes again before all others have.
std::vector<Tensor> routing_sets(const Case& c, int num_sets);

// Rows of each expert.
std::vector<std::int64_t> rows_per_expert(const Tensor& index, std::int64_t num_experts);

}  // namespace moesmith::bench
