// SPDX-License-Identifier: Apache-2.0
#include "experts/scattermoe/workspace.h"

#include <algorithm>

#include "experts/scattermoe/weight_terms.h"

namespace moesmith::experts::scattermoe {
namespace {

std::int64_t max_blocks(const ExpertsRequest& request, std::int64_t num_tokens) {
  const std::int64_t rows = row_capacity(request, num_tokens);
  return std::min(rows, request.num_experts) + rows / kBlockRows;
}

WorkerScratch worker_scratch(Carver& carver,
                             const ExpertsRequest& request,
                             std::int64_t num_tokens,
                             std::int64_t stripe,
                             bool backward) {
  const std::int64_t width = std::max(request.gate_up_width(), request.hidden);
  WorkerScratch worker;
  const std::int64_t rank = std::max(round_up(request.gate_up_lora.lora_rank, 16),
                                     round_up(request.down_lora.lora_rank, 16));
  const std::int64_t rows = row_capacity(request, num_tokens);
  worker.block = BlockScratch::carve(carver, rows, std::max({width, request.inter, rank}));
  worker.stripe = carver.take<float>(checked_mul(num_tokens, stripe));
  worker.bias = carver.take<float>(width);
  if (!backward) return worker;
  worker.wide = carver.take<float>(width);
  const std::int64_t words = std::min(kSumWords, rows);
  worker.left = carver.take<char>(kSumRows * words * 4);
  worker.right = carver.take<char>(kSumColumns * words * 4);
  worker.sums = carver.take<float>(kSumRows * kSumColumns);
  worker.rows = carver.take<const void*>(4 * words);
  return worker;
}

// Places `num_threads` of them; returns the bytes of one.
std::int64_t carve_workers(Carver& carver,
                           const ExpertsRequest& request,
                           std::int64_t num_tokens,
                           int num_threads,
                           bool backward,
                           std::byte** workers) {
  Carver measure;
  worker_scratch(measure, request, num_tokens, stripe_columns(request, backward, num_threads),
                 backward);
  const std::int64_t bytes = round_up(measure.used(), Carver::kAlignment);
  *workers = carver.take<std::byte>(checked_mul(bytes, static_cast<std::int64_t>(num_threads)));
  return bytes;
}

template <class Work>
void carve_common(Carver& carver,
                  Work& work,
                  const ExpertsRequest& request,
                  std::int64_t num_tokens) {
  work.index = carve_routing(carver, request, num_tokens);
  work.lora_1 = decltype(work.lora_1)::carve(carver, request.gate_up_lora, request.num_experts,
                                             request.hidden, request.gate_up_width());
  work.lora_2 = decltype(work.lora_2)::carve(carver, request.down_lora, request.num_experts,
                                             request.inter, request.hidden);
  work.blocks = carver.take<RowBlock>(max_blocks(request, num_tokens));
}

}  // namespace

std::int64_t stripe_columns(const ExpertsRequest& request, bool backward, int num_threads) {
  const bool along_k = backward == request.transposed;
  std::int64_t columns = columns_for(along_k);
  while (columns > 64 && ceil_div(request.hidden, columns) < 2 * num_threads) columns /= 2;
  return columns;
}

std::int64_t cut_rows(const RoutingIndex& index, RowBlock* blocks) {
  std::int64_t count = 0;
  for (std::int64_t e = 0; e < index.num_experts; ++e) {
    const std::int64_t rows = index.rows(e), parts = ceil_div(rows, kBlockRows);
    for (std::int64_t p = 0; p < parts; ++p) {
      blocks[count++] = {e, index.offsets[e] + rows * p / parts,
                         index.offsets[e] + rows * (p + 1) / parts};
    }
  }
  return count;
}

template <class T>
ForwardWork<T> ForwardWork<T>::carve(Carver& carver,
                                     const ExpertsRequest& request,
                                     std::int64_t num_tokens,
                                     int num_threads) {
  const Needs needs(request);
  const std::int64_t rows = row_capacity(request, num_tokens);
  ForwardWork work;
  carve_common(carver, work, request, num_tokens);
  if (!needs.save_u_1) work.u_1 = carver.take<T>(checked_mul(rows, work.lora_1.lora_rank));
  if (!needs.save_u_2) work.u_2 = carver.take<T>(checked_mul(rows, work.lora_2.lora_rank));
  work.a = carver.take<T>(checked_mul(rows, request.inter));
  work.stripe = stripe_columns(request, false, num_threads);
  work.worker_bytes = carve_workers(carver, request, num_tokens, num_threads, false, &work.workers);
  return work;
}

template <class T>
WorkerScratch ForwardWork<T>::worker(const ExpertsRequest& request,
                                     std::int64_t num_tokens,
                                     int number) const {
  Carver carver(workers + number * worker_bytes);
  return worker_scratch(carver, request, num_tokens, stripe, false);
}

template <class T>
BackwardWork<T> BackwardWork<T>::carve(Carver& carver,
                                       const ExpertsRequest& request,
                                       std::int64_t num_tokens,
                                       int num_threads) {
  const Needs needs(request);
  const WantedGradients& want = request.wanted;
  const std::int64_t rows = row_capacity(request, num_tokens), width = request.gate_up_width();
  BackwardWork work;
  carve_common(carver, work, request, num_tokens);
  const std::int64_t rank_1 = work.lora_1.lora_rank, rank_2 = work.lora_2.lora_rank;
  const auto take = [&](bool needed, std::int64_t columns) -> T* {
    return needed ? carver.take<T>(checked_mul(rows, columns)) : nullptr;
  };
  if (request.d_output_dtype != request.compute_dtype) {
    work.dy = carver.take<T>(checked_mul(num_tokens, request.hidden));
  }
  work.h = take(needs.h && !needs.save_h, width);
  work.d_h = take(needs.d_h, width);
  work.v_1 = take(needs.v_1, rank_1);
  work.v_2 = take(needs.v_2, rank_2);
  work.weighted_v_2 = take(want.down_a.wanted(), rank_2);
  work.weighted_u_2 = take(want.down_b.wanted(), rank_2);
  work.a = take(needs.a_again, request.inter);
  work.weighted_a = take(want.down.wanted(), request.inter);
  if (want.top_k_weights.wanted()) {
    work.d_weights =
        carver.take<float>(checked_mul(rows, ceil_div(request.inter, d_a_columns(request))));
  }
  if (want.gate_up_b.wanted()) {
    work.d_b_1 = carver.take<float>(checked_mul(checked_mul(request.num_experts, width), rank_1));
  }
  if (want.down_b.wanted()) {
    work.d_b_2 =
        carver.take<float>(checked_mul(checked_mul(request.num_experts, request.hidden), rank_2));
  }
  work.stripe = stripe_columns(request, true, num_threads);
  work.worker_bytes = carve_workers(carver, request, num_tokens, num_threads, true, &work.workers);
  return work;
}

template <class T>
WorkerScratch BackwardWork<T>::worker(const ExpertsRequest& request,
                                      std::int64_t num_tokens,
                                      int number) const {
  Carver carver(workers + number * worker_bytes);
  return worker_scratch(carver, request, num_tokens, stripe, true);
}

template struct ForwardWork<float>;
template struct ForwardWork<bf16>;
template struct BackwardWork<float>;
template struct BackwardWork<bf16>;

}  // namespace moesmith::experts::scattermoe
