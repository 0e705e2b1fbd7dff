// SPDX-License-Identifier: Apache-2.0
#include "experts/batched_mm/workspace.h"

#include <algorithm>
#include <type_traits>

#include "kernels/rows/rows.h"

namespace moesmith::experts::batched_mm {
namespace {

WorkerScratch worker_scratch(Carver& carver,
                             const ExpertsRequest& request,
                             std::int64_t num_tokens,
                             bool backward) {
  const std::int64_t rows = row_capacity(request, num_tokens);
  WorkerScratch worker;
  worker.block = carver.take<float>(kRowGroup * 2 * kMaxColumns);
  if (!backward) worker.stripe = carver.take<float>(checked_mul(rows, kMaxColumns));
  worker.bias = carver.take<float>(2 * kMaxColumns);
  worker.sum = carver.take<float>(kMaxColumns);
  if (!backward) return worker;
  const std::int64_t rank = std::max(request.gate_up_lora.lora_rank, request.down_lora.lora_rank);
  worker.left = carver.take<float>(checked_mul(kRowGroup, rows));
  worker.grad = carver.take<float>(kRowGroup * kGradColumns);
  worker.row = carver.take<float>(checked_mul(kGradRows, checked_mul(rank, request.num_experts)));
  return worker;
}

template <class T>
void carve_common(Carver& carver,
                  Work<T>& work,
                  const ExpertsRequest& request,
                  std::int64_t num_tokens) {
  work.index = carve_routing(carver, request, num_tokens);
  const std::int64_t hits = std::min(row_capacity(request, num_tokens), request.num_experts);
  work.hits = carver.take<Hit>(hits);
  const auto pack = [&](const LoraSpec& lora, std::int64_t out) -> PackedB<T> {
    const std::int64_t count = checked_mul(checked_mul(hits, out), lora.lora_rank);
    return {lora.lora_rank, out, lora.lora_rank > 0 ? carver.take<T>(count) : nullptr};
  };
  work.b_1 = pack(request.gate_up_lora, request.gate_up_width());
  work.b_2 = pack(request.down_lora, request.hidden);
  if (!std::is_same_v<T, float>) {
    work.x = carver.take<float>(checked_mul(num_tokens, request.hidden));
  }
}

}  // namespace

Workers Workers::carve(Carver& carver,
                       const ExpertsRequest& request,
                       std::int64_t num_tokens,
                       int num_threads,
                       bool backward) {
  Carver measure;
  worker_scratch(measure, request, num_tokens, backward);
  Workers workers;
  workers.backward = backward;
  workers.bytes = round_up(measure.used(), Carver::kAlignment);
  workers.base =
      carver.take<std::byte>(checked_mul(workers.bytes, static_cast<std::int64_t>(num_threads)));
  return workers;
}

WorkerScratch Workers::worker(const ExpertsRequest& request,
                              std::int64_t num_tokens,
                              int number) const {
  Carver carver(base + number * bytes);
  return worker_scratch(carver, request, num_tokens, backward);
}

template <class T>
Rounded<T> Rounded<T>::carve(Carver& carver, std::int64_t count) {
  Rounded values;
  values.wide = carver.take<float>(count);
  if constexpr (std::is_same_v<T, float>) {
    values.narrow = values.wide;
  } else {
    values.narrow = carver.take<T>(count);
  }
  return values;
}

template <class T>
void Rounded<T>::round(float scale, std::int64_t first, std::int64_t n) const {
  kernels::rows::ops<T>().from_f32(narrow + first, wide + first, scale, n);
  widen(first, n);
}

template <class T>
void Rounded<T>::widen(std::int64_t first, std::int64_t n) const {
  if constexpr (!std::is_same_v<T, float>) {
    kernels::rows::ops<T>().to_f32(wide + first, narrow + first, 1.0f, n);
  }
}

template <class T>
Work<T> Work<T>::carve_forward(Carver& carver,
                               const ExpertsRequest& request,
                               std::int64_t num_tokens,
                               int num_threads) {
  const std::int64_t rows = row_capacity(request, num_tokens);
  Work work;
  carve_common(carver, work, request, num_tokens);
  work.u_1 = Rounded<T>::carve(carver, checked_mul(rows, request.gate_up_lora.lora_rank));
  work.u_2 = Rounded<T>::carve(carver, checked_mul(rows, request.down_lora.lora_rank));
  work.a = Rounded<T>::carve(carver, checked_mul(rows, request.inter));
  work.workers = Workers::carve(carver, request, num_tokens, num_threads, false);
  return work;
}

template <class T>
Work<T> Work<T>::carve_backward(Carver& carver,
                                const ExpertsRequest& request,
                                std::int64_t num_tokens,
                                int num_threads) {
  const Needs needs(request);
  const WantedGradients& want = request.wanted;
  const std::int64_t rows = row_capacity(request, num_tokens), width = request.gate_up_width();
  const std::int64_t rank_1 = request.gate_up_lora.lora_rank, rank_2 = request.down_lora.lora_rank;
  Work work;
  carve_common(carver, work, request, num_tokens);
  const auto take = [&](bool needed, std::int64_t columns) -> float* {
    return needed ? carver.take<float>(checked_mul(rows, columns)) : nullptr;
  };
  if (needs.h && !needs.save_h) work.h = carver.take<T>(checked_mul(rows, width));
  const auto round = [&](bool needed, std::int64_t columns) {
    return needed ? Rounded<T>::carve(carver, checked_mul(rows, columns)) : Rounded<T>{};
  };
  work.d_h = round(needs.d_h, width);
  if (request.d_output_dtype != DType::kF32) {
    work.dy = carver.take<float>(checked_mul(num_tokens, request.hidden));
  }
  work.u_1 = round(needs.save_u_1, rank_1);
  work.u_2 = round(needs.save_u_2, rank_2);
  work.v_1 = take(needs.v_1, rank_1);
  work.v_2 = take(needs.v_2, rank_2);
  work.weighted_v_2 = take(want.down_a.wanted(), rank_2);
  work.weighted_u_2 = take(want.down_b.wanted(), rank_2);
  work.a = round(needs.a_again, request.inter);
  work.weighted_a = take(want.down.wanted(), request.inter);
  work.x_rows = take(want.gate_up.wanted() || want.gate_up_a.wanted(), request.hidden);
  work.dy_rows = take(want.down.wanted() || want.down_b.wanted(), request.hidden);
  work.d_x_rows = take(want.hidden.wanted(), request.hidden);
  work.d_weights = take(want.top_k_weights.wanted(), ceil_div(request.inter, kInterBlock));
  work.workers = Workers::carve(carver, request, num_tokens, num_threads, true);
  return work;
}

template <class T>
void Work<T>::find_hits() {
  num_hits = 0;
  for (std::int64_t e = 0; e < index.num_experts; ++e) {
    if (index.rows(e) > 0) hits[num_hits++] = {e, index.offsets[e], index.offsets[e + 1]};
  }
}

template struct Rounded<float>;
template struct Rounded<bf16>;
template struct Work<float>;
template struct Work<bf16>;

}  // namespace moesmith::experts::batched_mm
