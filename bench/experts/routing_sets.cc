// SPDX-License-Identifier: Apache-2.0
#include "experts/routing_sets.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/rng.h"

namespace moesmith::bench {
namespace {

// A permutation of the experts.
std::vector<std::int64_t> shuffled(std::int64_t count, std::uint64_t stream) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  const Rng rng(11, stream);
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[rng.below(i, i)]);
  }
  return order;
}

std::int64_t draw_expert(const Case& c, const Rng& rng, std::uint64_t& draw) {
  const std::int64_t count = c.size.num_experts;
  if (c.routing == RoutingKind::kZipf) {
    const double u = rng.uniform(draw++);
    return static_cast<std::int64_t>(std::pow(static_cast<double>(count), u)) - 1;
  }
  return static_cast<std::int64_t>(rng.below(draw++, static_cast<std::uint64_t>(count)));
}

// The choices of one set before its experts are relabelled.
void choose(const Case& c, std::uint64_t set, std::int64_t* index) {
  const Rng rng(7, set);
  std::uint64_t draw = 0;
  for (std::int64_t t = 0; t < c.tokens; ++t, index += c.size.top_k) {
    for (std::int64_t k = 0; k < c.size.top_k;) {
      const std::int64_t e = c.routing == RoutingKind::kOne ? k : draw_expert(c, rng, draw);
      if (std::find(index, index + k, e) == index + k) index[k++] = e;
    }
  }
}

}  // namespace

std::vector<Tensor> routing_sets(const Case& c, int num_sets) {
  const std::int64_t count = c.size.num_experts, k = c.size.top_k;
  std::vector<Tensor> sets;
  for (int set = 0; set < num_sets; ++set) {
    Tensor index = Tensor::empty({c.tokens, k}, DType::kI64);
    auto* const at = index.data<std::int64_t>();
    if (c.tokens == 1) {
      const auto deck = shuffled(count, 0);
      for (std::int64_t i = 0; i < k; ++i) {
        at[i] = deck[static_cast<std::size_t>((set * k + i) % count)];
      }
    } else {
      choose(c, static_cast<std::uint64_t>(set), at);
      const auto label = shuffled(count, static_cast<std::uint64_t>(set) + 1);
      for (std::int64_t i = 0; i < index.numel(); ++i) {
        at[i] = label[static_cast<std::size_t>(at[i])];
      }
    }
    sets.push_back(std::move(index));
  }
  return sets;
}

std::vector<std::int64_t> rows_per_expert(const Tensor& index, std::int64_t num_experts) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(num_experts));
  const auto* const at = index.data<std::int64_t>();
  for (std::int64_t i = 0; i < index.numel(); ++i) ++rows[static_cast<std::size_t>(at[i])];
  return rows;
}

}  // namespace moesmith::bench
