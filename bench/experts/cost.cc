// SPDX-License-Identifier: Apache-2.0
#include "experts/cost.h"

namespace moesmith::bench {
namespace {

std::int64_t expert_elements(const Case& c) { return 3 * c.size.hidden * c.size.inter; }

std::int64_t factor_elements(const Case& c) {
  return c.lora_rank * (2 * c.size.hidden + 3 * c.size.inter);
}

}  // namespace

double flops_of(const Case& c) {
  const double passes = c.mode == Mode::kForward ? 1 : c.mode == Mode::kLora ? 2 : 3;
  return passes * 2 * static_cast<double>(c.tokens * c.size.top_k) *
         static_cast<double>(expert_elements(c));
}

double bytes_of(const Case& c, double experts_hit) {
  const auto element = static_cast<double>(dtype_size(c.dtype));
  const double weights = experts_hit * static_cast<double>(expert_elements(c)) * element;
  const double tokens = static_cast<double>(c.tokens * c.size.hidden) * element;
  if (!c.backward()) return weights + 2 * tokens;
  const double saved = 2 * static_cast<double>(c.tokens * c.size.top_k * c.size.inter) * element;
  const double factors =
      c.mode == Mode::kLora ? 2 * experts_hit * 4 * static_cast<double>(factor_elements(c)) : 0;
  return 2 * weights + factors + 5 * tokens + 2 * saved + static_cast<double>(gradient_bytes(c));
}

std::int64_t weight_bytes(const Case& c) {
  return c.size.num_experts * expert_elements(c) * dtype_size(c.dtype);
}

std::int64_t gradient_bytes(const Case& c) {
  if (!c.backward()) return 0;
  return 4 * c.size.num_experts * (c.mode == Mode::kLora ? factor_elements(c) : expert_elements(c));
}

}  // namespace moesmith::bench
