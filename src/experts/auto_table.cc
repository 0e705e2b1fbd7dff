// SPDX-License-Identifier: Apache-2.0
#include "experts/auto_table.h"

#include <algorithm>
#include <cstdint>

#include "core/text.h"

namespace moesmith::experts {
namespace {

constexpr const char* kManyTokens[] = {"sonicmoe", "scattermoe", "grouped_mm", "batched_mm",
                                       "eager"};
constexpr const char* kFewTokens[] = {"sonicmoe", "batched_mm", "scattermoe", "grouped_mm",
                                      "eager"};

// Up to how many tokens, and rows per expert on average, reading weights in place (batched_mm)
// beats packing them (scattermoe). Measured in bf16 and f32 on 2 cores of Zen 4 at T = 1, 2, 4, 8,
// 16 for Qwen3-30B-A3B, OLMoE, Granite and Mixtral: the first three at every T, Mixtral, whose rows
// of x leave the first cache, up to 2 rows per expert.
struct FewTokens {
  std::int64_t widest;  // of max(hidden, inter)
  std::int64_t max_tokens, max_rows;
};
constexpr FewTokens kTable[2] = {
    {.widest = 2048, .max_tokens = 16, .max_rows = 4},
    {.widest = INT64_MAX, .max_tokens = 16, .max_rows = 2},
};

}  // namespace

AutoChoice auto_choice(const ExpertsRequest& request) {
  const std::int64_t widest = std::max(request.hidden, request.inter);
  const FewTokens& row = widest <= kTable[0].widest ? kTable[0] : kTable[1];
  if (request.max_tokens > row.max_tokens) {
    return {kManyTokens, str("max_tokens ", request.max_tokens, " > ", row.max_tokens)};
  }
  // One token's slots are one row each, however few experts there are.
  const std::int64_t slots = request.max_tokens * request.top_k;
  if (request.max_tokens > 1 && slots > row.max_rows * request.num_experts) {
    return {kManyTokens, str("more than ", row.max_rows, " rows per expert: ", slots, " for ",
                             request.num_experts)};
  }
  return {kFewTokens, str("decoding: max_tokens ", request.max_tokens, " <= ", row.max_tokens)};
}

}  // namespace moesmith::experts
