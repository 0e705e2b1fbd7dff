// SPDX-License-Identifier: Apache-2.0
// Where the reference keeps things, and its two passes for a storage type T and a summing type Acc.
#pragma once

#include <cstdint>
#include <vector>

#include "core/thread_pool.h"
#include "experts/eager/expert.h"
#include "experts/needs.h"
#include "experts/routing.h"

namespace moesmith::experts::eager {

// Scratch of one pass; measured over no buffer.
template <class Acc>
struct Workspace {
  RoutingIndex index;
  void* rows = nullptr;          // [max_rows,H] compute_dtype: y, or d_x
  std::byte* workers = nullptr;  // one Expert<Acc> each
  std::int64_t worker_bytes = 0;

  static Workspace carve(Carver& carver,
                         const ExpertsRequest& request,
                         std::int64_t num_tokens,
                         int num_threads,
                         bool backward);
  Expert<Acc> worker(const ExpertsRequest& request, int number, bool backward) const;
};

// sum over k of weight * row, in slot order, for each token; weight 1 when `weighted` is false.
// Calls put(token, sums [H]).
template <class T, class Acc, class Put>
void combine_rows(const ExpertsRequest& request,
                  const ExpertsInputs& inputs,
                  const RoutingIndex& index,
                  const T* rows,
                  bool weighted,
                  ThreadPool& pool,
                  const Put& put);

template <class T, class Acc>
void run_forward(const ExpertsRequest& request, const ForwardArgs& args, ThreadPool& pool);
template <class T, class Acc>
void run_backward(const ExpertsRequest& request, const BackwardArgs& args, ThreadPool& pool);

template <class T, class Acc, class Put>
void combine_rows(const ExpertsRequest& request,
                  const ExpertsInputs& inputs,
                  const RoutingIndex& index,
                  const T* rows,
                  bool weighted,
                  ThreadPool& pool,
                  const Put& put) {
  constexpr std::int64_t kTokens = 16;
  pool.for_chunks(inputs.num_tokens, kTokens, [&](std::int64_t begin, std::int64_t end) {
    std::vector<Acc> sums(static_cast<std::size_t>(request.hidden));
    for (std::int64_t token = begin; token < end; ++token) {
      std::fill(sums.begin(), sums.end(), Acc(0));
      for (std::int64_t k = 0; k < request.top_k; ++k) {
        const std::int64_t slot = token * request.top_k + k;
        const std::int64_t row = index.row_of[slot];
        if (row < 0) continue;
        const Acc weight =
            weighted ? static_cast<Acc>(route_weight(inputs, request.route_weights_dtype, slot))
                     : Acc(1);
        for (std::int64_t j = 0; j < request.hidden; ++j) {
          sums[static_cast<std::size_t>(j)] += weight * widen<Acc>(rows[row * request.hidden + j]);
        }
      }
      put(token, sums.data());
    }
  });
}

}  // namespace moesmith::experts::eager
