// SPDX-License-Identifier: Apache-2.0
#include "experts/grouped_mm/workspace.h"

#include <algorithm>

#include "experts/grouped_mm/tiles.h"

namespace moesmith::experts::grouped_mm {
namespace {

std::int64_t sums_width(const ExpertsRequest& request) {
  return std::max({request.gate_up_width(), request.hidden, padded_lora_rank(request.gate_up_lora),
                   padded_lora_rank(request.down_lora)});
}

std::int64_t widest_rank(const ExpertsRequest& request) {
  return std::max(padded_lora_rank(request.gate_up_lora), padded_lora_rank(request.down_lora));
}

template <class T>
WorkerTiles<T> forward_tiles(Carver& carver,
                             const ExpertsRequest& request,
                             std::int64_t num_tokens) {
  const std::int64_t rows = tile_rows(row_capacity(request, num_tokens));
  WorkerTiles<T> tiles;
  tiles.x = carver.take<T>(rows * request.hidden);
  tiles.h = carver.take<T>(rows * request.gate_up_width());
  tiles.a = carver.take<T>(rows * request.inter);
  tiles.u = carver.take<T>(rows * widest_rank(request));
  tiles.sums = carver.take<float>(rows * sums_width(request));
  tiles.wide_1 = carver.take<float>(request.hidden);
  return tiles;
}

template <class T>
WorkerTiles<T> backward_tiles(Carver& carver,
                              const ExpertsRequest& request,
                              std::int64_t num_tokens) {
  const Needs needs(request);
  const std::int64_t rows = tile_rows(row_capacity(request, num_tokens));
  WorkerTiles<T> tiles;
  tiles.dy = carver.take<T>(rows * request.hidden);
  if (request.recompute_h && needs.h) {
    tiles.x = carver.take<T>(rows * request.hidden);
    tiles.h = carver.take<T>(rows * request.gate_up_width());
  }
  // Also where the activation's gradient goes when only the routing weights' is wanted.
  tiles.d_h = carver.take<T>(rows * request.gate_up_width());
  tiles.u = carver.take<T>(rows * widest_rank(request));
  tiles.sums = carver.take<float>(rows * sums_width(request));
  tiles.d_a = carver.take<float>(rows * request.inter);
  tiles.wide_1 = carver.take<float>(std::max(request.hidden, request.gate_up_width()));
  tiles.wide_2 = carver.take<float>(request.hidden);
  tiles.left = carver.take<T>(rows * kLongSide);
  tiles.right = carver.take<T>(rows * kLongSide);
  tiles.block = carver.take<float>(kLongSide * kShortSide);
  return tiles;
}

}  // namespace

template <class T>
ForwardWork<T> ForwardWork<T>::carve(Carver& carver,
                                     const ExpertsRequest& request,
                                     std::int64_t num_tokens,
                                     int num_threads) {
  ForwardWork work;
  work.index = carve_routing(carver, request, num_tokens);
  work.lora_1 = PackedLora<T>::carve(carver, request.gate_up_lora, request.num_experts,
                                     request.hidden, request.gate_up_width());
  work.lora_2 = PackedLora<T>::carve(carver, request.down_lora, request.num_experts, request.inter,
                                     request.hidden);
  work.y_rows = carver.take<T>(checked_mul(row_capacity(request, num_tokens), request.hidden));
  Carver measure;
  forward_tiles<T>(measure, request, num_tokens);
  work.worker_bytes = round_up(measure.used(), Carver::kAlignment);
  work.workers = carver.take<std::byte>(
      checked_mul(work.worker_bytes, static_cast<std::int64_t>(num_threads)));
  return work;
}

template <class T>
WorkerTiles<T> ForwardWork<T>::worker(const ExpertsRequest& request,
                                      std::int64_t num_tokens,
                                      int number) const {
  Carver carver(workers + number * worker_bytes);
  return forward_tiles<T>(carver, request, num_tokens);
}

template <class T>
BackwardWork<T> BackwardWork<T>::carve(Carver& carver,
                                       const ExpertsRequest& request,
                                       std::int64_t num_tokens,
                                       int num_threads) {
  const Needs needs(request);
  const WantedGradients& want = request.wanted;
  const std::int64_t rows = row_capacity(request, num_tokens), width = request.gate_up_width();
  const std::int64_t rank_1 = padded_lora_rank(request.gate_up_lora);
  const std::int64_t rank_2 = padded_lora_rank(request.down_lora);
  BackwardWork work;
  work.index = carve_routing(carver, request, num_tokens);
  work.lora_1 = PackedLora<T>::carve(carver, request.gate_up_lora, request.num_experts,
                                     request.hidden, width);
  work.lora_2 = PackedLora<T>::carve(carver, request.down_lora, request.num_experts, request.inter,
                                     request.hidden);
  if (request.recompute_h && needs.a_again) work.h_rows = carver.take<T>(rows * width);
  if (want.gate_up.wanted() || want.gate_up_b.wanted() || want.gate_up_bias.wanted()) {
    work.d_h_rows = carver.take<T>(rows * width);
  }
  if (want.gate_up_a.wanted()) work.v_1_rows = carver.take<T>(rows * rank_1);
  if (want.down_a.wanted()) work.v_2_rows = carver.take<T>(rows * rank_2);
  if (want.hidden.wanted()) work.d_x_rows = carver.take<T>(rows * request.hidden);
  if (want.gate_up_b.wanted()) {
    work.d_b_1 = carver.take<float>(request.num_experts * width * rank_1);
  }
  if (want.down_b.wanted()) {
    work.d_b_2 = carver.take<float>(request.num_experts * request.hidden * rank_2);
  }
  Carver measure;
  backward_tiles<T>(measure, request, num_tokens);
  work.worker_bytes = round_up(measure.used(), Carver::kAlignment);
  work.workers = carver.take<std::byte>(
      checked_mul(work.worker_bytes, static_cast<std::int64_t>(num_threads)));
  return work;
}

template <class T>
WorkerTiles<T> BackwardWork<T>::worker(const ExpertsRequest& request,
                                       std::int64_t num_tokens,
                                       int number) const {
  Carver carver(workers + number * worker_bytes);
  return backward_tiles<T>(carver, request, num_tokens);
}

template struct ForwardWork<float>;
template struct ForwardWork<bf16>;
template struct BackwardWork<float>;
template struct BackwardWork<bf16>;

}  // namespace moesmith::experts::grouped_mm
